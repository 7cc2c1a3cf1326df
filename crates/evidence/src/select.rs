//! Which files, and which parts of them, have to do with a criterion.
//!
//! Owns lexical selection: no judge is called. Files are ranked by the BM25 of their chunks for the
//! criterion's words; what is ranked best is shown whole while it fits, and of what does not fit the
//! best chunks in the order of the file. Files that somebody else ranked are shown by the same rules,
//! in the order of that ranking. The same query, index and budget give the same bytes.

pub mod bm25;
mod chunk;

use std::{cmp::Ordering, sync::OnceLock};

use self::bm25::Bm25;
pub use self::chunk::{Chunk, chunks};
use crate::{assemble::FENCE_TOKENS, tokens::Tokenizer};

/// Share of a file's score that its further chunks have.
const REST_SHARE: f64 = 0.1;

/// Further chunks that count for a file's score: a long file is not better for being long.
const REST_CHUNKS: usize = 5;

/// What a word of the query is worth in a file's path, in units of its inverse document frequency.
const PATH_WEIGHT: f64 = 0.5;

/// Tokens that the mark of a gap takes at most.
const MARK_TOKENS: usize = 24;

/// The mark behind the beginning of a text.
const CUT_HERE: &str = "[… the rest left out …]";

/// What the mark of a gap says before and after its lines.
const GAP: &str = "[… lines ";
const GAP_END: &str = " left out …]";

/// The share of what is left of the budget that a file shown in part may take.
const PART_SHARE: usize = 2;

/// A file to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Path below the submission's root.
    pub path: String,
    /// The text as it would be shown.
    pub text: String,
    /// Tokens of it, where they were counted before.
    pub tokens: Option<usize>,
}

/// The files of a view, in chunks, with the words in them.
#[derive(Debug)]
pub struct Index {
    documents: Vec<Document>,
    /// Tokens of each document.
    tokens: Vec<usize>,
    /// All chunks, those of a document together and in order.
    chunks: Vec<Chunk>,
    /// Tokens of each chunk, counted when somebody first asks: many queries choose from one index.
    chunk_tokens: Vec<OnceLock<usize>>,
    /// Where each document's chunks begin; one entry more than documents.
    begins: Vec<usize>,
    words: Bm25,
}

/// A file that is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedFile {
    /// Its number in the index.
    pub file: usize,
    /// The text to show, with marks where lines are left out.
    pub text: String,
    /// Tokens of it.
    pub tokens: usize,
    /// Whether all of the file is shown.
    pub whole: bool,
    /// Its score for the query.
    pub score: f64,
}

/// What is chosen for a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The files that are shown, the best first.
    pub files: Vec<SelectedFile>,
    /// Tokens of their texts and fences.
    pub tokens: usize,
    /// Whether every file of the index is shown whole.
    pub fits: bool,
}

// === impl Index ===

impl Index {
    /// Reads the files. Takes about as long as counting the tokens of those that were not counted.
    pub fn new(documents: Vec<Document>, tokenizer: &dyn Tokenizer) -> Index {
        let mut words = Bm25::default();
        let (mut all, mut begins, mut tokens) = (Vec::new(), vec![0], Vec::new());
        for document in &documents {
            for chunk in chunks(&document.text) {
                words.add(&document.text[chunk.bytes.clone()]);
                all.push(chunk);
            }
            begins.push(all.len());
            tokens.push(document.tokens.unwrap_or_else(|| tokenizer.count(&document.text)));
        }
        words.finish();
        let chunk_tokens = vec![OnceLock::new(); all.len()];
        Index { documents, tokens, chunks: all, chunk_tokens, begins, words }
    }

    /// The files, in the order in which they were given.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Tokens of each file, in the same order.
    pub fn document_tokens(&self) -> impl Iterator<Item = usize> {
        self.tokens.iter().copied()
    }

    /// Tokens of all files with their fences.
    pub fn tokens(&self) -> usize {
        self.tokens.iter().map(|tokens| tokens + FENCE_TOKENS).sum()
    }

    /// Tokens of the chunk with this number.
    fn chunk_tokens(&self, at: usize, text: &str, tokenizer: &dyn Tokenizer) -> usize {
        let count = || tokenizer.count(&text[self.chunks[at].bytes.clone()]);
        *self.chunk_tokens[at].get_or_init(count)
    }

    /// Each file's score, by number.
    fn scores(&self, chunk_scores: &[f64], query: &str) -> Vec<f64> {
        let query = bm25::terms(query);
        let file_score = |file: usize| {
            let mut of_chunks = chunk_scores[self.begins[file]..self.begins[file + 1]].to_vec();
            of_chunks.sort_by(|a, b| b.total_cmp(a));
            let best = of_chunks.first().copied().unwrap_or(0.0);
            let rest: f64 = of_chunks.iter().skip(1).take(REST_CHUNKS).sum();
            let path = bm25::terms(&self.documents[file].path);
            let in_path = query.iter().filter(|word| path.contains(word));
            let bonus: f64 = in_path.map(|word| self.words.weight(word)).sum();
            best + REST_SHARE * rest + PATH_WEIGHT * bonus
        };
        (0..self.documents.len()).map(file_score).collect()
    }
}

/// All files with their scores, the best first, ties by path.
pub fn rank_files(query: &str, index: &Index) -> Vec<(usize, f64)> {
    rank(index, index.scores(&index.words.scores(query), query))
}

fn rank(index: &Index, scores: Vec<f64>) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|(a, a_score), (b, b_score)| {
        let by_path = || index.documents[*a].path.cmp(&index.documents[*b].path);
        b_score.total_cmp(a_score).then_with(by_path).then(a.cmp(b))
    });
    ranked
}

/// Chooses at most `budget` tokens of files for the query, their fences included.
pub fn select(query: &str, index: &Index, budget: usize, tokenizer: &dyn Tokenizer) -> Selection {
    let chunk_scores = index.words.scores(query);
    let ranked = rank(index, index.scores(&chunk_scores, query));
    let selection = fill(&ranked, &chunk_scores, Parts::WithWords, index, budget, tokenizer);
    if !selection.files.is_empty() {
        return selection;
    }
    // Nothing fits whole and nothing has to do with the query: the beginning of something is better
    // than nothing.
    let first = &ranked[..ranked.len().min(1)];
    fill(first, &chunk_scores, Parts::Any, index, budget, tokenizer)
}

/// Shows the files of a ranking, numbers of the index with the best first, within `budget` tokens,
/// their fences included. Of what does not fit whole, the parts that have most to do with the query
/// are shown, and its beginning where none has.
pub fn show(
    ranking: &[usize],
    query: &str,
    index: &Index,
    budget: usize,
    tokenizer: &dyn Tokenizer,
) -> Selection {
    let chunk_scores = index.words.scores(query);
    let scores = index.scores(&chunk_scores, query);
    let ranked: Vec<(usize, f64)> = ranking.iter().map(|file| (*file, scores[*file])).collect();
    fill(&ranked, &chunk_scores, Parts::Any, index, budget, tokenizer)
}

/// Which parts of a file that does not fit may be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// Those with a word of the query.
    WithWords,
    /// All, those with words of the query first.
    Any,
}

fn fill(
    ranked: &[(usize, f64)],
    chunk_scores: &[f64],
    parts: Parts,
    index: &Index,
    budget: usize,
    tokenizer: &dyn Tokenizer,
) -> Selection {
    let mut selection = Selection::default();
    let mut left = budget;
    for (at, (file, score)) in ranked.iter().enumerate() {
        let (file, score) = (*file, *score);
        let Some(room) = left.checked_sub(FENCE_TOKENS) else { break };
        let document = &index.documents[file];
        let whole = index.tokens[file] <= room;
        let (text, tokens) = if whole {
            (document.text.clone(), index.tokens[file])
        } else {
            let first = index.begins[file];
            let chunks = first..index.begins[file + 1];
            let (chunks, scores) = (&index.chunks[chunks.clone()], &chunk_scores[chunks]);
            let count = |at: usize| index.chunk_tokens(first + at, &document.text, tokenizer);
            // Nothing comes after the last file that needs the rest.
            let room = if at + 1 == ranked.len() { room } else { room / PART_SHARE };
            match part(&document.text, chunks, scores, parts, room, &count, tokenizer) {
                Some(part) => part,
                None => continue,
            }
        };
        left -= tokens + FENCE_TOKENS;
        selection.tokens += tokens + FENCE_TOKENS;
        selection.files.push(SelectedFile { file, text, tokens, whole, score });
    }
    let whole = selection.files.iter().filter(|file| file.whole).count();
    selection.fits = whole == index.documents.len();
    selection
}

/// The best chunks within `room` tokens, in the order of the file; `None` where none of them may be
/// shown or fits. `count` gives a chunk's tokens.
fn part(
    text: &str,
    chunks: &[Chunk],
    scores: &[f64],
    parts: Parts,
    room: usize,
    count: &dyn Fn(usize) -> usize,
    tokenizer: &dyn Tokenizer,
) -> Option<(String, usize)> {
    let may = |at: &usize| parts == Parts::Any || scores[*at] > 0.0;
    let mut order: Vec<usize> = (0..chunks.len()).filter(may).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    // A mark before each chunk, and one at the end.
    let mut left = room.checked_sub(MARK_TOKENS)?;
    let mut chosen = Vec::new();
    for at in order {
        let cost = count(at) + MARK_TOKENS;
        if cost <= left {
            left -= cost;
            chosen.push(at);
        }
        if left <= MARK_TOKENS {
            break;
        }
    }
    // Texts that are joined may count for more than they do alone: the whole decides.
    while !chosen.is_empty() {
        let mut shown = chosen.clone();
        shown.sort_unstable();
        let text = excerpt(text, chunks, &shown);
        let tokens = tokenizer.count(&text);
        match tokens.cmp(&room) {
            Ordering::Greater => chosen.pop(),
            _ => return Some((text, tokens)),
        };
    }
    if parts == Parts::WithWords {
        return None;
    }
    // Not even one chunk fits.
    let begin = tokenizer.truncate(text, room - MARK_TOKENS);
    let shown = format!("{begin}{}{CUT_HERE}", if begin.ends_with('\n') { "" } else { "\n" });
    let tokens = tokenizer.count(&shown);
    (!begin.is_empty() && tokens <= room).then_some((shown, tokens))
}

/// The chunks, with a mark wherever lines between them are left out.
fn excerpt(text: &str, chunks: &[Chunk], shown: &[usize]) -> String {
    let mut excerpt = String::new();
    let mut next = 0;
    let mark = |from: usize, to: usize, excerpt: &mut String| {
        if let (Some(first), Some(last)) = (chunks.get(from), chunks[..to].last())
            && from < to
        {
            if !excerpt.is_empty() && !excerpt.ends_with('\n') {
                excerpt.push('\n');
            }
            let (first, last) = (first.first_line, last.last_line);
            excerpt.push_str(&format!("{GAP}{first}–{last}{GAP_END}\n"));
        }
    };
    for at in shown {
        mark(next, *at, &mut excerpt);
        excerpt.push_str(&text[chunks[*at].bytes.clone()]);
        next = at + 1;
    }
    mark(next, chunks.len(), &mut excerpt);
    excerpt
}

/// The last of the lines that are left out where this line is the mark of a gap.
pub(crate) fn gap(line: &str) -> Option<usize> {
    let lines = line.strip_prefix(GAP)?.strip_suffix(GAP_END)?;
    lines.split_once('–')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::Vocabulary;

    fn vocabulary() -> Vocabulary {
        Vocabulary::named("o200k_base").expect("embedded")
    }

    fn index(files: &[(&str, &str)]) -> Index {
        let document = |(path, text): &(&str, &str)| Document {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
            tokens: None,
        };
        Index::new(files.iter().map(document).collect(), &vocabulary())
    }

    #[test]
    fn files_are_ranked_by_what_they_say() {
        let index = index(&[
            ("utils/io.py", "def load_csv(path):\n    return read(path)\n"),
            ("train.py", "for epoch in range(3):\n    optimizer.step()\n"),
            ("model/attention.py", "def scaled_dot_product(q, k):\n    return softmax(q @ k)\n"),
        ]);
        let ranked = rank_files("The attention uses a scaled dot-product with softmax.", &index);
        assert_eq!(ranked[0].0, 2, "{ranked:?}");
        assert!(ranked[0].1 > 2.0 * ranked[1].1);
        let ranked = rank_files("nothing of this zzz", &index);
        let order: Vec<usize> = ranked.iter().map(|(file, _)| *file).collect();
        assert_eq!(order, [2, 1, 0], "ties by path");
    }

    #[test]
    fn of_a_large_file_the_best_chunks_are_shown() {
        let filler = "value = compute(value)\n".repeat(300);
        let text = format!("{filler}def cosine_schedule(step):\n    return cos(step)\n{filler}");
        let index = index(&[("big.py", &text)]);
        let selection =
            select("a cosine schedule of the learning rate", &index, 2_500, &vocabulary());
        let file = &selection.files[0];
        assert!(!file.whole && !selection.fits);
        assert!(file.text.contains("def cosine_schedule"), "{}", file.text);
        assert!(file.text.starts_with("[… lines 1–300 left out …]\n"), "{}", file.text);
        assert!(file.text.ends_with("–602 left out …]\n"), "{}", file.text);
    }

    #[test]
    fn what_fits_is_shown_whole() {
        let index = index(&[("b.py", "x = 1\n"), ("a.py", "y = 2\n"), ("empty.py", "")]);
        let selection = select("y", &index, index.tokens(), &vocabulary());
        assert!(selection.fits && selection.files.len() == 3);
        assert_eq!(selection.tokens, index.tokens());
        assert_eq!(selection.files[0].file, 1);
        assert_eq!(select("y", &index, 0, &vocabulary()), Selection::default());
    }

    #[test]
    fn a_ranking_is_shown_in_its_order() {
        let long = "value = compute(value)\n".repeat(600);
        let index = index(&[("a.py", "x = 1\n"), ("long.py", &long), ("z.py", "zebra = 1\n")]);
        let shown = show(&[2, 1], "nothing of this", &index, 2_000, &vocabulary());
        let files: Vec<(usize, bool)> = shown.files.iter().map(|f| (f.file, f.whole)).collect();
        assert_eq!(files, [(2, true), (1, false)]);
        assert!(shown.files[1].text.starts_with("value = compute(value)\n"), "its beginning");
        assert!(shown.tokens <= 2_000 && shown.files[1].tokens > 1_000, "the last gets the rest");
        assert!(show(&[], "x", &index, 2_000, &vocabulary()).files.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_budget_is_never_exceeded(
            files in prop::collection::vec(("[a-c]{1,2}/[a-z]{1,3}\\.py", "([a-e]{1,3}( |\n|_|\\PC)){0,300}"), 0..6),
            query in "([a-e]{1,3} ){0,5}",
            budget in 0usize..1_500,
        ) {
            let files: Vec<(&str, &str)> =
                files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            let index = index(&files);
            let selection = select(&query, &index, budget, &vocabulary());
            prop_assert!(selection.tokens <= budget);
            let tokens: usize =
                selection.files.iter().map(|f| vocabulary().count(&f.text) + FENCE_TOKENS).sum();
            prop_assert_eq!(tokens, selection.tokens);
            prop_assert_eq!(&select(&query, &index, budget, &vocabulary()), &selection);
            let order: Vec<usize> = (0..files.len()).collect();
            prop_assert!(show(&order, &query, &index, budget, &vocabulary()).tokens <= budget);
            let ranked = rank_files(&query, &index);
            prop_assert_eq!(ranked.len(), files.len());
            prop_assert!(ranked.iter().all(|(_, score)| score.is_finite() && *score >= 0.0));
        }
    }
}
