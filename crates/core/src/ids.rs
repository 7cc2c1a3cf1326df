//! Identities: runs, tasks, workers, leases, and the hashes that address content.
//!
//! Owns their text forms. Randomness and time are passed in by the caller.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not the identity it should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a {noun}: {expected}")]
pub struct InvalidId {
    noun: &'static str,
    expected: &'static str,
    text: String,
}

/// The blake3 hash of a blob's uncompressed bytes: 32 bytes, 64 lower-case hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash([u8; 32]);

/// The hash of everything that can change a leaf's verdict: equal keys may share a verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentKey([u8; 32]);

/// A claim on one task: fresh 128 random bits at every claim, never derived from the row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId([u8; 16]);

/// A worker process: new at each process start, so that a reused id can never strand a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId([u8; 16]);

/// A batch of questions that a provider's batch API answers: our own name for it, 128 random bits,
/// which the provider keeps with the batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId([u8; 16]);

/// A run: the first 16 hex digits of the hash of its inputs, or of fresh ones (`--fresh`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(String);

/// Which task: a leaf's position in a run, and which of its samples.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The run.
    pub run: RunId,
    /// Depth-first position of the node in the unpruned rubric, root 0.
    pub position: u32,
    /// 0-based sample; above 0 only where a leaf is judged more than once.
    pub sample: u32,
}

// === impl of the byte identities ===

macro_rules! hex_id {
    ($name:ident, $len:literal, $noun:literal, $expected:literal) => {
        impl $name {
            /// The identity made of these bytes.
            pub fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The identity as stored, if the slice has the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes as stored.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // A few are written for every leaf, and the formatting of numbers shows in a worker's CPU.
                let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
                let digits = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
                f.write_str(&digits.collect::<String>())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = || InvalidId {
                    noun: $noun,
                    expected: $expected,
                    text: text.chars().take(80).collect(),
                };
                let digits = text.as_bytes();
                if digits.len() != $len * 2 {
                    return Err(invalid());
                }
                let mut bytes = [0; $len];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    let value = |digit: u8| match digit {
                        b'0'..=b'9' => Some(digit - b'0'),
                        b'a'..=b'f' => Some(digit - b'a' + 10),
                        _ => None,
                    };
                    let (high, low) = (value(pair[0]), value(pair[1]));
                    *byte = high.zip(low).map(|(h, l)| h << 4 | l).ok_or_else(invalid)?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(BlobHash, 32, "blob hash", "64 lower-case hex digits");
hex_id!(ContentKey, 32, "content key", "64 lower-case hex digits");
hex_id!(BatchId, 16, "batch id", "32 lower-case hex digits");
hex_id!(LeaseId, 16, "lease id", "32 lower-case hex digits");
hex_id!(WorkerId, 16, "worker id", "32 lower-case hex digits");

impl BlobHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

// === impl RunId ===

impl RunId {
    /// Hex digits in a run's id.
    pub const LEN: usize = 16;

    /// The id of the run with this input hash.
    pub fn from_hash(hash: BlobHash) -> Self {
        let mut text = hash.to_string();
        text.truncate(Self::LEN);
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({})", self.0)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == Self::LEN && text.chars().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                noun: "run id",
                expected: "16 lower-case hex digits, as `tribunal status` lists them",
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes fields so that no two different lists of fields have the same bytes: every field goes
/// in with its name and length. They are kept until they are hashed: many small ones at once take
/// less time than one after the other.
pub struct FieldHasher(Vec<u8>);

/// Room that a hasher's fields have at first: a leaf's fit, and its judge's among them.
const ROOM_BYTES: usize = 2048;

// === impl FieldHasher ===

impl FieldHasher {
    /// A hasher for one kind of thing; `domain` separates the kinds.
    pub fn new(domain: &str) -> Self {
        let mut hasher = Self(Vec::with_capacity(ROOM_BYTES));
        hasher.field("domain", domain.as_bytes());
        hasher
    }

    /// Adds one named field.
    pub fn field(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), bytes] {
            self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
            self.0.extend_from_slice(part);
        }
        self
    }

    /// The hash of all fields so far, as a blob hash.
    pub fn finish(&self) -> BlobHash {
        BlobHash(*blake3::hash(&self.0).as_bytes())
    }

    /// The hash of all fields so far, as a content key.
    pub fn content_key(&self) -> ContentKey {
        ContentKey(*blake3::hash(&self.0).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let hash = BlobHash::of(b"leaf");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let run = RunId::from_hash(hash);
        assert_eq!(run.as_str().parse(), Ok(run.clone()));
        for bad in ["", "zz", &"g".repeat(64), &"A".repeat(64), "é".repeat(32).as_str()] {
            assert!(bad.parse::<BlobHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_cannot_flow_into_each_other() {
        let hash = |fields: &[(&str, &str)]| {
            let mut hasher = FieldHasher::new("test");
            for (name, value) in fields {
                hasher.field(name, value.as_bytes());
            }
            hasher.finish()
        };
        assert_ne!(hash(&[("a", "bc")]), hash(&[("ab", "c")]));
        assert_ne!(hash(&[("a", "b"), ("c", "d")]), hash(&[("a", "bcd")]));
    }
}
