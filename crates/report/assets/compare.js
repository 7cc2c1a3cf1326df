// The differences, searched.

const wanted = document.getElementById("differences-search");
const differing = [...document.querySelectorAll("#differences tbody tr")];
wanted.hidden = false;
wanted.addEventListener("input", () => {
  const words = wanted.value.toLowerCase();
  for (const row of differing) row.hidden = words !== "" && !row.textContent.toLowerCase().includes(words);
});
