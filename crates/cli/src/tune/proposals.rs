//! Proposals: prompts that a model writes from what the judge got wrong on train papers.
//!
//! Owns the reading of the answer, and the refusal of one that knows a paper or breaks the prompt's
//! layout. Which candidate is changed, on which mistakes, is `tribunal_tune`'s. A question
//! that an earlier command asked is not asked again: the ledger has what came of it.

use std::path::Path;

use anyhow::bail;
use tribunal_audit::Paired;
use tribunal_core::{Category, ids::FieldHasher};
use tribunal_tune::{
    Labels, Split, Table,
    disagree::{disagreements, parent},
    sample::order,
    specific::Specific,
};
use tribunal_worker::{
    PromptSet,
    consult::{ConsultError, Consultant},
    prompt::lint,
};

use super::{
    bench::{Bench, Ended},
    candidates::{Candidate, Common},
    files,
    ledger::{Entry, Ledger},
    question::{complained, cut},
};
use crate::{output::counted, progress::note};

/// Mistakes shown in one question.
const SHOWN: usize = 8;

/// Train leaves that a candidate is judged by when a parent is chosen.
const TRAIN: usize = 40;

/// Questions for one proposal: a refused one is asked for again, once.
const TRIES: usize = 2;

/// What proposals are made of and with.
pub(crate) struct Proposals<'p> {
    pub(crate) common: &'p Common<'p>,
    pub(crate) consultant: Consultant,
    pub(crate) labels: &'p Labels,
    pub(crate) paired: &'p Paired,
    pub(crate) split: &'p Split,
    pub(crate) out: &'p Path,
    pub(crate) seed: u64,
    pub(crate) quiet: bool,
    /// Hashes of the questions that this tuning has asked.
    pub(crate) asked: Vec<String>,
    /// Whether a simulated judge answered one.
    pub(crate) simulated: bool,
}

/// An answer that can be used.
struct Proposal {
    set: PromptSet,
    reason: String,
}

// === impl Proposals ===

impl Proposals<'_> {
    /// Asks for `count` proposals and adds what comes of them to the bench; why it ended before, if it
    /// did.
    ///
    /// # Errors
    ///
    /// The store's, or a file cannot be written.
    pub(crate) async fn make(
        &mut self,
        count: usize,
        bench: &mut Bench<'_>,
        table: &mut Table,
        ledger: &mut Ledger,
    ) -> anyhow::Result<Option<Ended>> {
        let folds = self.split.folds();
        let specific = self.specific();
        for number in 0..count {
            let fold = &folds[number % folds.len()];
            let seed = self.seed ^ number as u64;
            let pool_leaves = self.labels.of_papers(&fold.train);
            let mut train = order(self.labels, &pool_leaves, self.seed);
            train.truncate(TRAIN);
            let plain = |candidate: &Candidate| {
                let clean = !candidate.seen.iter().any(|paper| fold.test.contains(paper));
                candidate.document.factors.is_empty() && clean
            };
            let pool: Vec<usize> =
                (0..bench.judged.len()).filter(|at| plain(&bench.judged[*at].candidate)).collect();
            let missing = table.missing(&pool, &train);
            if !missing.is_empty() {
                let questions = counted(missing.len(), "question", "questions");
                self.say(&format!("train: {questions}"));
            }
            if let Some(ended) = bench.ask(&missing, table).await? {
                return Ok(Some(ended));
            }
            let parent = parent(self.labels, &train, table, &pool, seed);
            let wrong = disagreements(self.labels, &train, table, parent, SHOWN, seed);
            if wrong.is_empty() {
                self.say(&format!("proposal {}: nothing on train is wrong", number + 1));
                continue;
            }
            let given = bench.judged[parent].candidate.clone();
            let question = self.question(&given.set, parent, &wrong, table, bench).await?;
            let mut complaint = String::new();
            for attempt in 0..TRIES {
                let text = format!(
                    "{question}{complaint}\nThis is request {}-{}.\n",
                    number + 1,
                    attempt + 1
                );
                let asked = self.hash(&text, bench);
                self.asked.push(asked.clone());
                if let Some((folder, refused)) = ledger.proposal(&asked) {
                    // It was paid for by the same budget.
                    let (_, cost) = ledger.proposer(std::slice::from_ref(&asked));
                    bench.proposed_usd += cost.unwrap_or(0.0);
                    if let Some(folder) = folder.map(str::to_owned) {
                        self.add(&folder, &given, &fold.train, bench).await?;
                        break;
                    }
                    complaint = complained(refused);
                    continue;
                }
                if let (Some(left), Some(most)) =
                    (bench.left_usd().await?, self.consultant.most_usd(&text))
                    && most > left
                {
                    return Ok(Some(Ended::Budget));
                }
                let answer = match self.consultant.ask(&text, &bench.shutdown.drain).await {
                    Ok(answer) => answer,
                    Err(ConsultError::Stopped) => return Ok(Some(Ended::Stopped)),
                    Err(ConsultError::Refused(why)) => return Ok(Some(Ended::Refused(why))),
                    Err(ConsultError::Failed(why)) => bail!("--proposer: {why}"),
                };
                self.simulated |= answer.simulated;
                bench.proposed_usd += answer.cost_usd.unwrap_or(0.0);
                let name = format!("p{}-{}", number + 1, &asked[..8]);
                let read = read(&answer.text, &given.set, &name, &specific);
                let (folder, refused) = match read {
                    Ok(proposal) => {
                        let folder = format!("candidates/{name}");
                        self.keep(&folder, &proposal, &given, &fold.train)?;
                        (Some(folder), Vec::new())
                    }
                    Err(refused) => (None, refused),
                };
                // The folder is there before the ledger says so.
                ledger.append(Entry::Proposal {
                    at: jiff::Timestamp::now(),
                    asked,
                    folder: folder.clone(),
                    refused: refused.clone(),
                    calls: answer.calls,
                    cost_usd: answer.cost_usd,
                })?;
                match folder {
                    Some(folder) => {
                        self.add(&folder, &given, &fold.train, bench).await?;
                        break;
                    }
                    None => {
                        self.say(&format!(
                            "proposal {} refused: {}",
                            number + 1,
                            refused.join("; ")
                        ));
                        complaint = complained(&refused);
                    }
                }
            }
        }
        Ok(None)
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }

    fn names(&self, papers: &[usize]) -> Vec<String> {
        papers.iter().map(|paper| self.labels.papers[*paper].clone()).collect()
    }

    fn specific(&self) -> Specific {
        let papers = &self.labels.papers;
        let criteria = self.paired.leaves.iter().filter_map(|leaf| {
            let paper = papers.binary_search(&self.paired.submission(leaf).paper).ok()?;
            Some((paper, leaf.requirements.as_str()))
        });
        Specific::of(criteria)
    }

    fn hash(&self, text: &str, bench: &Bench<'_>) -> String {
        let mut hasher = FieldHasher::new("tribunal.proposal/1");
        hasher.field("proposer", &self.consultant.identity());
        hasher.field("judge", &bench.judged[0].candidate.panel.first.spec.identity());
        hasher.field("text", text.as_bytes()).finish().to_string()
    }

    /// Writes the proposal's folder, with where it comes from.
    fn keep(
        &self,
        folder: &str,
        proposal: &Proposal,
        parent: &Candidate,
        train: &[usize],
    ) -> anyhow::Result<()> {
        let path = self.out.join(folder);
        let record = serde_json::json!({
            "parent": parent.document.name,
            "parent_prompt_hash": parent.document.prompt_hash,
            "reason": proposal.reason,
            "seen": self.names(train),
        });
        std::fs::create_dir_all(&path)?;
        tribunal_collector::write_file(
            &path.join("proposal.json"),
            &serde_json::to_vec_pretty(&record)?,
        )?;
        files::write_set(&path, &proposal.set)
    }

    /// Adds a proposal's folder to the candidates, unless its text is another's.
    async fn add(
        &self,
        folder: &str,
        parent: &Candidate,
        train: &[usize],
        bench: &mut Bench<'_>,
    ) -> anyhow::Result<()> {
        let path = self.out.join(folder);
        let mut candidate = self.common.with_set(&path.display().to_string())?;
        let same = |of: &Candidate| {
            of.document.factors.is_empty()
                && of.set.templates == candidate.set.templates
                && of.set.questions == candidate.set.questions
        };
        if let Some(other) = bench.judged.iter_mut().find(|of| same(&of.candidate)) {
            let other = &mut other.candidate;
            self.say(&format!("{folder} says the same as {}", other.document.name));
            // Made from other papers too: what only one of them saw, the other did not need.
            other.seen.retain(|paper| train.contains(paper));
            other.document.seen = self.names(&other.seen);
            return Ok(());
        }
        let record = std::fs::read(path.join("proposal.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap_or_default();
        candidate.document.parent = Some(parent.document.name.clone());
        candidate.document.reason = record["reason"].as_str().map(str::to_owned);
        candidate.document.seen = self.names(train);
        candidate.seen = train.to_vec();
        self.say(&format!("{folder}, from {}", parent.document.name));
        if let Some(same) = bench.add(candidate).await? {
            self.say(&same);
        }
        Ok(())
    }
}

/// The text between a tag and its end; the tag's rest is given to `fits`.
fn between<'t>(text: &'t str, name: &str, fits: impl Fn(&str) -> bool) -> Option<&'t str> {
    let open = format!("<{name}");
    for (at, _) in text.match_indices(&open) {
        let (tag, inner) = text[at + open.len()..].split_once('>')?;
        if fits(tag) {
            return inner.split_once(&format!("</{name}>")).map(|(inner, _)| inner.trim());
        }
    }
    None
}

/// The set that an answer proposes, or everything that speaks against it.
fn read(
    answer: &str,
    parent: &PromptSet,
    name: &str,
    specific: &Specific,
) -> Result<Proposal, Vec<String>> {
    let system = between(answer, "system", |tag| tag.trim().is_empty());
    let system = system.filter(|text| !text.is_empty());
    let system = system.ok_or_else(|| vec!["it has no <system>…</system>".to_owned()])?;
    let mut set = parent.clone();
    name.clone_into(&mut set.name);
    set.description = format!("Proposed from {}.", parent.name);
    set.templates.insert("system.md".to_owned(), format!("{system}\n"));
    for category in Category::ALL {
        let named = format!("category=\"{category}\"");
        if let Some(question) = between(answer, "question", |tag| tag.trim() == named) {
            set.questions.insert(category, question.to_owned());
        }
    }
    let text = |set: &PromptSet| {
        let questions: Vec<&str> = set.questions.values().map(String::as_str).collect();
        format!("{}\n{}", set.templates["system.md"], questions.join("\n"))
    };
    let mut refused = specific.found(&text(&set), &text(parent));
    if system.contains("{{") || system.contains("{%") {
        refused.push("template syntax in the instructions".to_owned());
    }
    refused.extend(lint::lint(&set).into_iter().map(|problem| problem.to_string()));
    if !refused.is_empty() {
        return Err(refused);
    }
    let reason = between(answer, "reason", |tag| tag.trim().is_empty()).unwrap_or_default();
    Ok(Proposal { set, reason: cut(reason) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_it(answer: &str) -> Result<Proposal, String> {
        let parent = PromptSet::builtin("default").unwrap();
        let criteria = [
            (0, "The ViT-B backbone is trained for 3750 steps on the convection task."),
            (0, "The convection loss is logged."),
            (1, "Seeds are fixed."),
        ];
        let specific = Specific::of(criteria.into_iter());
        read(answer, &parent, "p1", &specific).map_err(|refused| refused.join("; "))
    }

    #[test]
    fn a_proposal_changes_instructions_and_questions_alone() {
        let answer = "<reason>It trusted comments.</reason>\n<system>\nGrade what runs.\n</system>\n\
            <question category=\"Code Development\">Is it implemented?</question>";
        let proposal = read_it(answer).map_err(|error| panic!("{error}")).unwrap();
        let parent = PromptSet::builtin("default").unwrap();
        assert_eq!(proposal.reason, "It trusted comments.");
        assert_eq!(proposal.set.templates["system.md"], "Grade what runs.\n");
        assert_eq!(proposal.set.questions[&Category::CodeDevelopment], "Is it implemented?");
        assert_eq!(
            proposal.set.questions[&Category::CodeExecution],
            parent.questions[&Category::CodeExecution]
        );
        assert_eq!(proposal.set.templates["criterion.md"], parent.templates["criterion.md"]);
    }

    #[test]
    fn what_knows_a_paper_or_breaks_the_layout_is_refused() {
        for (system, expected) in [
            ("Expect 3750 steps.", "`3750`"),
            ("Look for the ViT-B backbone.", "`ViT-B`"),
            ("Mind the convection.", "`convection`"),
            ("Grade {{ requirements }}.", "template syntax"),
        ] {
            let refused = read_it(&format!("<system>{system}</system>")).err().unwrap_or_default();
            assert!(refused.contains(expected), "{system}: {refused}");
        }
        assert!(read_it("I think it is fine.").is_err());
        assert!(read_it("<system></system>").is_err());
    }
}
