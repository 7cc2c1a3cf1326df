//! Files for a leaf out of evidence that exceeds its budget.
//!
//! Owns which leaves share a selection, the query that stands for them, and the texts that come of a
//! ranking. The same evidence, leaf and ranking give the same bytes, today and when they are rendered
//! again. Asking the judge for a ranking is the attempt's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::OnceCell;
use tribunal_core::{Rubric, SelectionMethod, verdict::Suspicion};
use tribunal_evidence::{
    Document, Index, Pool, PoolFile, Selected, Vocabulary, injection, pool::RANKED_FILES, select,
};
use tribunal_store::Store;

use crate::{parse::BadReply, recorded::ContextError, verify::ShownTexts, warm};

/// A pool with what is made of it once.
#[derive(Debug)]
pub struct Selector {
    pool: Pool,
    /// All its candidates, for lexical selection.
    index: OnceCell<Arc<Index>>,
}

/// What leaves that share their files share besides.
#[derive(Debug, Default)]
pub struct Group {
    /// The judge's ranking: made once, siblings wait for it. It lives as long as the process; what
    /// became of it is recorded with every verdict.
    pub ranking: OnceCell<Vec<String>>,
    /// Who of them goes ahead: their prompts begin alike beyond what all leaves are shown.
    pub warm: warm::Prefixes,
    /// Their files, chosen within the whole room and within half of it: made once while any of them
    /// is asked about. They are as long as a prompt, so nobody keeps them longer.
    pub files: [tokio::sync::Mutex<Weak<Files>>; 2],
}

/// The files that leaves are shown, with what is made of them once.
#[derive(Debug)]
pub struct Files {
    /// The files and their record.
    pub selected: Selected,
    /// What quotes are looked up in, beside what all leaves are shown.
    pub texts: ShownTexts,
    /// Text in them that addresses the judge.
    pub suspicions: Vec<Suspicion>,
}

/// The groups, each by the position of its first leaf and the sample: every vote on a leaf has a
/// ranking of its own.
#[derive(Debug, Default)]
pub struct Groups(Mutex<HashMap<(u32, u32), Arc<Group>>>);

// === impl Selector ===

impl Selector {
    /// A selector of these files.
    pub fn new(pool: Pool) -> Selector {
        Selector { pool, index: OnceCell::new() }
    }

    /// How files are chosen.
    pub fn method(&self) -> SelectionMethod {
        self.pool.method
    }

    /// The leaves that are shown the same files as the one at `index`, in document order: itself, or
    /// the leaves of its category that have its parent.
    pub fn group(&self, rubric: &Rubric, index: usize) -> Vec<usize> {
        let node = &rubric.nodes()[index];
        let Some(parent) = node.parent().filter(|_| self.pool.method.is_shared()) else {
            return vec![index];
        };
        let together = |sibling: &usize| {
            let sibling = &rubric.nodes()[*sibling];
            sibling.is_leaf() && sibling.category == node.category
        };
        rubric.children(parent).filter(together).collect()
    }

    /// The paths of a judge's ranking that there are, at most ten, as the submission has them.
    ///
    /// # Errors
    ///
    /// None of them is there.
    pub fn known(&self, named: &[String]) -> Result<Vec<String>, BadReply> {
        let mut paths: Vec<String> = Vec::new();
        for path in named.iter().filter_map(|path| self.pool.find(path)).map(|file| &file.path) {
            if !paths.contains(path) && paths.len() < RANKED_FILES {
                paths.push(path.clone());
            }
        }
        match paths.is_empty() {
            true => Err(BadReply("none of the files it names is a text of the tree".to_owned())),
            false => Ok(paths),
        }
    }

    /// What the leaves of `group` are shown. `ranking` is the judge's, where the method asks for one.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn select(
        &self,
        store: &dyn Store,
        rubric: &Rubric,
        group: &[usize],
        ranking: Option<&[String]>,
    ) -> Result<Selected, ContextError> {
        let query = query(rubric, group);
        let vocabulary = self.vocabulary()?;
        let (index, ranked) = match ranking {
            None => (self.index(store).await?, None),
            Some(paths) => {
                let mut documents = Vec::new();
                for file in paths.iter().filter_map(|path| self.pool.find(path)) {
                    documents.extend(document(store, &self.pool, file).await?);
                }
                let ranked: Vec<usize> = (0..documents.len()).collect();
                (
                    blocking(move || Arc::new(Index::new(documents, &vocabulary))).await?,
                    Some(ranked),
                )
            }
        };
        let room = self.pool.room;
        let of = Arc::clone(&index);
        let selection = blocking(move || match ranked {
            None => select::select(&query, &of, room, &vocabulary),
            Some(ranked) => select::show(&ranked, &query, &of, room, &vocabulary),
        });
        Ok(self.pool.selected(&index, &selection.await?))
    }

    /// The same with what is made of it, in which the texts are read.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn files(
        &self,
        store: &dyn Store,
        rubric: &Rubric,
        group: &[usize],
        ranking: Option<&[String]>,
    ) -> Result<Arc<Files>, ContextError> {
        let selected = self.select(store, rubric, group, ranking).await?;
        let read = move || {
            let texts = ShownTexts::of_files(&selected.files);
            let suspicions = injection::scan_files(&selected.files);
            Arc::new(Files { selected, texts, suspicions })
        };
        blocking(read).await
    }

    /// The ranking that the leaves' words give, for who wants to see a prompt without asking the
    /// judge for one.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn guess(
        &self,
        store: &dyn Store,
        rubric: &Rubric,
        group: &[usize],
    ) -> Result<Vec<String>, ContextError> {
        let (index, query) = (self.index(store).await?, query(rubric, group));
        let path = |(file, _): (usize, f64)| index.documents()[file].path.clone();
        let ranked = select::rank_files(&query, &index);
        Ok(ranked.into_iter().take(RANKED_FILES).map(path).collect())
    }

    /// All candidates, read once.
    async fn index(&self, store: &dyn Store) -> Result<Arc<Index>, ContextError> {
        let build = async || {
            let mut documents = Vec::new();
            for file in self.pool.candidates() {
                documents.extend(document(store, &self.pool, file).await?);
            }
            let vocabulary = self.vocabulary()?;
            blocking(move || Arc::new(Index::new(documents, &vocabulary))).await
        };
        self.index.get_or_try_init(build).await.cloned()
    }

    fn vocabulary(&self) -> Result<Vocabulary, ContextError> {
        let missing = || ContextError::Unusable("the embedded vocabularies are gone".to_owned());
        self.pool.vocabulary().ok_or_else(missing)
    }
}

/// The words of these leaves' criteria.
fn query(rubric: &Rubric, group: &[usize]) -> String {
    let words = group.iter().map(|index| rubric.nodes()[*index].requirements.as_str());
    words.collect::<Vec<_>>().join("\n")
}

async fn document(
    store: &dyn Store,
    pool: &Pool,
    file: &PoolFile,
) -> Result<Option<Document>, ContextError> {
    let Some(hash) = file.text else { return Ok(None) };
    let bytes = store.blob(hash).await?;
    Ok(Some(pool.document(file, &String::from_utf8_lossy(&bytes))))
}

/// Counting tokens and reading texts take long: not on the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ContextError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ContextError::Unusable(error.to_string()))
}

// === impl Groups ===

impl Groups {
    /// The group that begins at this position, for this sample.
    pub fn of(&self, position: u32, sample: u32) -> Arc<Group> {
        let mut groups = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(groups.entry((position, sample)).or_default())
    }

    /// Forgets a group that nobody will ask for again.
    pub fn forget(&self, position: u32, sample: u32) {
        let mut groups = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        groups.remove(&(position, sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUBRIC: &str = r#"{"id": "root", "requirements": "r", "weight": 1, "sub_tasks": [
        {"id": "a", "requirements": "a", "weight": 1, "sub_tasks": [], "task_category": "Code Development"},
        {"id": "g", "requirements": "g", "weight": 1, "sub_tasks": [
            {"id": "b", "requirements": "b", "weight": 1, "sub_tasks": [], "task_category": "Code Development"}]},
        {"id": "c", "requirements": "c", "weight": 1, "sub_tasks": [], "task_category": "Code Execution"},
        {"id": "d", "requirements": "d", "weight": 1, "sub_tasks": [], "task_category": "Code Development"}]}"#;

    #[test]
    fn leaves_of_a_parent_and_category_share_their_files() {
        let rubric = Rubric::parse("rubric", RUBRIC.as_bytes()).expect("a rubric");
        let ids = |method, id: &str| {
            let selector = Selector::new(Pool::new(method, 100, "paperbench", "o200k_base"));
            let (index, _) = rubric.leaves().find(|(_, node)| node.id == id).expect("a leaf");
            let group = selector.group(&rubric, index);
            group.iter().map(|index| rubric.nodes()[*index].id.as_str()).collect::<String>()
        };
        assert_eq!(ids(SelectionMethod::LexicalShared, "d"), "ad");
        assert_eq!(ids(SelectionMethod::JudgeShared, "a"), "ad");
        assert_eq!(ids(SelectionMethod::JudgeShared, "b"), "b");
        assert_eq!(ids(SelectionMethod::LexicalShared, "c"), "c");
        assert_eq!(ids(SelectionMethod::Judge, "a"), "a");
    }
}
