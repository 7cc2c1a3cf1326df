//! The names of entries.
//!
//! Owns the way from the bytes that a folder or archive names an entry by to a path below the
//! submission's root, or to the finding that there is none. It never touches a file system.

use super::TOP_FOLDER;

/// Folders of version control, and those that the Finder adds to archives.
const LEFT_OUT_FOLDERS: [&[u8]; 7] =
    [b".git", b".hg", b".svn", b".bzr", b"__MACOSX", b".tribunal", b"tribunal-out"];

/// Where an entry lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The root itself.
    Root,
    /// In a folder that is left out.
    LeftOut,
    /// At no path below the root; the name as it stands.
    Outside(String),
    /// At this path below the root.
    Inside(String),
}

/// The place of an entry with this name; `folder` says that it is one.
pub(super) fn place(name: &[u8], folder: bool) -> Place {
    let drive = matches!(name, [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic());
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Place::Outside(escaped(name)),
            part => parts.push(part),
        }
    }
    if drive || name.starts_with(b"/") {
        return Place::Outside(escaped(name));
    }
    let folders = if folder { &parts[..] } else { &parts[..parts.len().saturating_sub(1)] };
    if folders.iter().any(|part| is_left_out(part)) {
        return Place::LeftOut;
    }
    match parts.is_empty() {
        true => Place::Root,
        false => Place::Inside(escaped(&parts.join(&b'/'))),
    }
}

/// Whether a folder of this name is left out.
pub(super) fn is_left_out(folder: &[u8]) -> bool {
    LEFT_OUT_FOLDERS.contains(&folder)
}

/// Whether a file of this path is AppleDouble's or the Finder's.
pub(super) fn is_housekeeping(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.starts_with("._") || name == ".DS_Store"
}

/// The path below [`TOP_FOLDER`], if it lies there.
pub(super) fn below_top(path: &str) -> Option<&str> {
    path.strip_prefix(TOP_FOLDER)?.strip_prefix('/')
}

/// The name as text; bytes that are not UTF-8 become `\xHH`.
pub(super) fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        let inside = |path: &str| Place::Inside(path.to_owned());
        assert_eq!(place(b"./a//b/./c.py", false), inside("a/b/c.py"));
        assert_eq!(place("ü \n.py".as_bytes(), false), inside("ü \n.py"));
        assert_eq!(place(b"a\xff\xfe.py", false), inside("a\\xFF\\xFE.py"));
        assert_eq!(place(b"..a/b..", false), inside("..a/b.."));
        assert_eq!(place(b".git", false), inside(".git"));
        assert_eq!(place(b".git/", true), Place::LeftOut);
        assert_eq!(place(b"a/__MACOSX/b", false), Place::LeftOut);
        assert_eq!(place(b"./", true), Place::Root);
        assert_eq!(place(b"", false), Place::Root);
        for name in ["/etc/passwd", "..", "a/../../b", "a/..", "C:/x", "C:\\x", "//x", ".git/../x"]
        {
            assert_eq!(place(name.as_bytes(), false), Place::Outside(name.to_owned()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out(name in prop::collection::vec(any::<u8>(), 0..40), folder: bool) {
            if let Place::Inside(path) = place(&name, folder) {
                prop_assert!(!path.starts_with('/'));
                prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }

        #[test]
        fn no_name_of_dots_and_slashes_leads_out(name in "[./a]{0,12}", folder: bool) {
            if let Place::Inside(path) = place(name.as_bytes(), folder) {
                prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
