//! The texts of a prompt, each read once: its tokens, what it asks, what it shows.
//!
//! Owns what is remembered about a text between calls. Thousands of prompts share their first
//! megabytes; of those, a call costs one hash and one look-up.

use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Bytes;
use tiktoken::CoreBpe;
use tokio::sync::OnceCell;

use crate::{
    cache::{Lru, lock},
    chance,
    question::{self, Element, Question},
    ranking::{RankQuestion, tree_paths},
    verdict::{
        lexical::Evidence,
        obey::{self, Order},
    },
};

/// Texts from this length on are remembered in any case, in bytes.
pub(crate) const MIN_REMEMBERED: usize = 6_144;

/// Bytes after which a block of the prefix cache may end.
const BLOCK: usize = 4_096;

/// Bytes that all remembered texts may take, with what is known about them.
const MAX_BYTES: u64 = 512 << 20;

/// Bytes of memory for each byte of text, roughly: the text itself and its index.
const BYTES_PER_BYTE: u64 = 3;

/// A stretch of text that begins and ends between two tokens.
pub(crate) struct Block {
    pub(crate) hash: [u8; 32],
    pub(crate) tokens: u64,
}

/// A text of a prompt and everything that can be known of it alone.
pub(crate) struct Segment {
    text: String,
    blocks: Vec<Block>,
    tokens: u64,
    mentions_json: bool,
    question: Option<Question>,
    ranking: Option<RankQuestion>,
    paths: Vec<String>,
    order: Option<Order>,
    evidence: Evidence,
    shown: Option<[u8; 32]>,
}

/// Texts seen before, by the hash of their JSON form.
pub(crate) struct SegmentCache {
    seen: Mutex<Lru<[u8; 32], Reading>>,
}

/// A text that is being read, or was.
type Reading = Arc<OnceCell<Arc<Segment>>>;

// === impl Segment ===

impl Segment {
    /// Everything about `text`. Takes milliseconds a megabyte.
    pub(crate) fn read(text: String) -> Segment {
        let blocks = blocks(&text);
        let (question, shown) = match Question::find(&text) {
            Some((question, start)) => (Some(question), &text[..start]),
            None => (None, &text[..]),
        };
        let elements = question::elements(shown);
        let evidence = Evidence::index(&elements);
        Segment {
            ranking: RankQuestion::find(&text),
            paths: tree_paths(shown),
            order: obey::order(&elements),
            shown: shown_hash(&elements),
            tokens: blocks.iter().map(|block| block.tokens).sum(),
            mentions_json: mentions_json(&text),
            blocks,
            question,
            evidence,
            text,
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text in blocks whose borders depend on what stands before them alone, so that equal
    /// starts of two texts have equal blocks.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Tokens of the text, o200k_base.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether the word JSON stands in it.
    pub(crate) fn mentions_json(&self) -> bool {
        self.mentions_json
    }

    /// The last criterion in it.
    pub(crate) fn question(&self) -> Option<&Question> {
        self.question.as_ref()
    }

    /// The question for files that it ends with.
    pub(crate) fn ranking(&self) -> Option<&RankQuestion> {
        self.ranking.as_ref()
    }

    /// The paths of the trees in it, before its criterion.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The first line in its files and logs that asks for a full score.
    pub(crate) fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// The files and logs in it, before its criterion.
    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// A hash of these files and logs, without the tags around them: a tag's nonce is of the store
    /// that asks. `None` where there are none.
    pub(crate) fn shown(&self) -> Option<&[u8; 32]> {
        self.shown.as_ref()
    }
}

fn shown_hash(elements: &[Element<'_>]) -> Option<[u8; 32]> {
    let parts =
        elements.iter().flat_map(|element| [element.path.as_bytes(), element.body.as_bytes()]);
    let parts: Vec<&[u8]> = parts.collect();
    (!parts.is_empty()).then(|| chance::hash(0, "shown", &parts))
}

// === impl SegmentCache ===

impl SegmentCache {
    pub(crate) fn new() -> Self {
        SegmentCache { seen: Mutex::new(Lru::new(MAX_BYTES)) }
    }

    /// The text that `escaped` stands for: what is between the quotes of a JSON string. A long
    /// text, or one that is `shared` with other calls, is remembered, and read once however many
    /// calls bring it at the same time.
    ///
    /// # Errors
    ///
    /// Why it is no JSON string.
    pub(crate) async fn read(&self, escaped: Bytes, shared: bool) -> Result<Arc<Segment>, String> {
        let long = escaped.len() >= MIN_REMEMBERED;
        if !long && !shared {
            return Ok(Arc::new(Segment::read(unescape(&escaped)?)));
        }
        let key = *blake3::hash(&escaped).as_bytes();
        let cell = {
            let mut seen = lock(&self.seen);
            match seen.get(&key) {
                Some(cell) => cell,
                None => {
                    let cell = Arc::new(OnceCell::new());
                    let weight = (escaped.len() as u64 + 1_024) * BYTES_PER_BYTE;
                    seen.insert(key, Arc::clone(&cell), weight);
                    cell
                }
            }
        };
        let read = || async move {
            let read = move || unescape(&escaped).map(|text| Arc::new(Segment::read(text)));
            if !long {
                return read();
            }
            let read = tokio::task::spawn_blocking(read).await;
            read.unwrap_or_else(|error| Err(error.to_string()))
        };
        cell.get_or_try_init(read).await.cloned()
    }
}

fn unescape(escaped: &[u8]) -> Result<String, String> {
    let mut quoted = Vec::with_capacity(escaped.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(escaped);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).map_err(|error| error.to_string())
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (block, after) = rest.split_at(block_end(rest));
        blocks.push(Block {
            hash: *blake3::hash(block.as_bytes()).as_bytes(),
            tokens: count_tokens(block),
        });
        rest = after;
    }
    blocks
}

/// Where the first block of `text` ends: at a newline before a letter, which no token of
/// o200k_base spans, so that the blocks' counts sum to the text's.
fn block_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let border = |at: &usize| bytes[*at] == b'\n' && bytes[*at + 1].is_ascii_alphabetic();
    let candidates = BLOCK.min(bytes.len())..bytes.len().saturating_sub(1);
    candidates.into_iter().find(border).map_or(bytes.len(), |at| at + 1)
}

fn mentions_json(text: &str) -> bool {
    text.as_bytes().windows(4).any(|window| window.eq_ignore_ascii_case(b"json"))
}

/// Tokens of a text, o200k_base. Text that spells a special token counts as text.
pub(crate) fn count_tokens(text: &str) -> u64 {
    tokenizer().map_or_else(|| text.len().div_ceil(4), |bpe| bpe.count(text)) as u64
}

/// The first `max` tokens of a text, without a last character that was cut through.
pub(crate) fn cut_tokens(text: &str, max: u64) -> String {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let Some(bpe) = tokenizer() else {
        return text.chars().take(max.saturating_mul(4)).collect();
    };
    let mut tokens = bpe.encode(text);
    tokens.truncate(max);
    let bytes = bpe.decode(&tokens);
    let valid = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.to_owned()
}

fn tokenizer() -> Option<&'static CoreBpe> {
    static TOKENIZER: OnceLock<Option<&'static CoreBpe>> = OnceLock::new();
    *TOKENIZER.get_or_init(|| tiktoken::get_encoding("o200k_base"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vocabulary_is_there() {
        assert_eq!(count_tokens("hello world"), 2);
        // One token if it were special.
        assert!(count_tokens("<|endoftext|>") > 3);
        assert_eq!(cut_tokens("hello world again", 2), "hello world");
        assert_eq!(cut_tokens("hello", 0), "");
    }

    #[test]
    fn reads_json_in_any_case_and_nothing_else() {
        assert!(mentions_json("answer in JsOn."));
        assert!(!mentions_json("js on"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_count_as_the_whole_text_does(
            lines in proptest::collection::vec("[ \t]{0,3}([a-zA-Z0-9é]{1,9}[ =(./'\"-]{0,3}){0,8}[\r\n/]{0,3}", 200..500),
        ) {
            let text = lines.join("\n");
            let blocks = blocks(&text);
            let sum: u64 = blocks.iter().map(|block| block.tokens).sum();
            prop_assert_eq!(sum, count_tokens(&text));
            prop_assert!(blocks.len() > 1 || text.len() < 2 * BLOCK);
        }
    }
}
