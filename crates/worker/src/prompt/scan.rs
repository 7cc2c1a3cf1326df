//! Where names stand in a template.
//!
//! Owns finding lines for messages. Which names a template really needs is the engine's to say;
//! this only looks for them in tags, with the scopes that tags open.

/// A word in a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word<'t> {
    text: &'t str,
    line: usize,
    /// The last character before it that is no white space, within the tag.
    before: Option<char>,
    /// What follows, without white space.
    after: &'t str,
}

/// A `{{ … }}` or `{% … %}`.
struct Tag<'t> {
    /// Whether it is a `{% … %}`.
    statement: bool,
    words: Vec<Word<'t>>,
}

/// Statements that take text from another template.
const BORROWING: [&str; 5] = ["include", "import", "from", "extends", "block"];

/// The 1-based line on which `name` first stands as a variable that nothing in the template sets;
/// where there is none, the one on which it first stands at all.
pub(super) fn line_of(source: &str, name: &str) -> Option<usize> {
    let mut scopes: Vec<Vec<&str>> = vec![Vec::new()];
    let mut anywhere = None;
    for tag in tags(source) {
        let keyword = tag.words.first().filter(|_| tag.statement).map(|word| word.text);
        let rest = if tag.statement { tag.words.get(1..).unwrap_or_default() } else { &tag.words };
        // What the tag binds, and where its expression begins.
        let bound = match keyword {
            Some("for") => rest.iter().position(|word| word.text == "in").unwrap_or(0),
            Some("set" | "with") => {
                rest.iter().take_while(|word| is_target(word)).count().min(rest.len())
            }
            Some("macro" | "call") => rest.len(),
            _ => 0,
        };
        let (targets, expression) = rest.split_at(bound);
        for word in expression.iter().filter(|word| word.text == name && is_variable(word)) {
            anywhere.get_or_insert(word.line);
            if !scopes.iter().flatten().any(|bound| *bound == name) {
                return Some(word.line);
            }
        }
        let targets = targets.iter().map(|word| word.text);
        match keyword {
            Some("for") => scopes.push(targets.chain(["loop"]).collect()),
            Some("with" | "call") => scopes.push(targets.collect()),
            Some("macro") => {
                scopes.push(targets.chain(["caller"]).collect());
                if let (Some(outer), Some(word)) = (scopes.iter_mut().rev().nth(1), rest.first()) {
                    outer.push(word.text);
                }
            }
            Some("set") => {
                if let Some(scope) = scopes.last_mut() {
                    scope.extend(targets);
                }
            }
            Some("endfor" | "endwith" | "endcall" | "endmacro") if scopes.len() > 1 => {
                scopes.pop();
            }
            _ => {}
        }
    }
    anywhere
}

/// The statements by which the template takes text from another one, each with its line.
pub(super) fn borrowing(source: &str) -> Vec<(&str, usize)> {
    let keywords = tags(source).into_iter().filter(|tag| tag.statement);
    let keywords = keywords.filter_map(|tag| tag.words.first().copied());
    let keywords = keywords.filter(|word| BORROWING.contains(&word.text));
    keywords.map(|word| (word.text, word.line)).collect()
}

/// Whether the word stands on the left of a `set` or `with`.
fn is_target(word: &Word<'_>) -> bool {
    let assigned = word.after.starts_with('=') && !word.after.starts_with("==");
    // Of several targets, the ones before the last stand behind the `t` of `set` or a comma.
    assigned || (word.after.starts_with(',') && word.before.is_none_or(|c| c == ',' || c == 't'))
}

/// Whether the word can be a variable, and not an attribute, a filter or an argument's name.
fn is_variable(word: &Word<'_>) -> bool {
    let named = word.after.starts_with('=') && !word.after.starts_with("==");
    !named && !matches!(word.before, Some('.' | '|'))
}

fn tags(source: &str) -> Vec<Tag<'_>> {
    let mut tags: Vec<Tag<'_>> = Vec::new();
    let mut at = 0;
    while let Some(step) = source[at..].find('{') {
        let open = at + step;
        at = open + 1;
        let statement = match source[at..].chars().next() {
            Some('#') => {
                at = source[at..].find("#}").map_or(source.len(), |end| at + end + 2);
                continue;
            }
            Some('%') => true,
            Some('{') => false,
            _ => continue,
        };
        let end = tag_end(source, at + 1, if statement { "%}" } else { "}}" });
        let words = words(source, at + 1, end);
        at = end;
        let raw = statement && words.first().is_some_and(|word| word.text == "raw");
        if raw {
            let close = ["{% endraw", "{%- endraw", "{%endraw"];
            let close = close.into_iter().filter_map(|tag| source[at..].find(tag)).min();
            at = close.map_or(source.len(), |close| at + close);
        } else {
            tags.push(Tag { statement, words });
        }
    }
    tags
}

/// Where the tag that began before `from` ends; what stands in a string does not end it.
fn tag_end(source: &str, from: usize, close: &str) -> usize {
    let mut quoted = None;
    let mut escaped = false;
    for (step, c) in source[from..].char_indices() {
        match quoted {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(quote) if c == quote => quoted = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quoted = Some(c),
            None if source[from + step..].starts_with(close) => return from + step,
            None => {}
        }
    }
    source.len()
}

/// The words between two offsets, those in strings left out.
fn words(source: &str, from: usize, to: usize) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (mut at, mut before) = (from, None);
    while let Some(c) = source[at..to].chars().next() {
        let start = at;
        at += c.len_utf8();
        if c == '"' || c == '\'' {
            let mut escaped = false;
            for inside in source[at..to].chars() {
                at += inside.len_utf8();
                if inside == c && !escaped {
                    break;
                }
                escaped = inside == '\\' && !escaped;
            }
            before = Some(c);
        } else if c.is_alphabetic() || c == '_' {
            let more = |c: char| !(c.is_alphanumeric() || c == '_');
            at = source[start..to].find(more).map_or(to, |length| start + length);
            let line = source[..start].matches('\n').count() + 1;
            let after = source[at..to].trim_start();
            words.push(Word { text: &source[start..at], line, before, after });
            before = source[start..at].chars().last();
        } else if !c.is_whitespace() && (c != '-' || start != from) {
            before = Some(c);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_free_one_is_found() {
        let source = "{# file #}\n{% for file in files %}{{ file.path }}{{ 'file' }}\n{% endfor %}\n\
                      {{ x|file }}{{ x.file }}{{ f(file=1) }}\n{{ y + file }}";
        assert_eq!(line_of(source, "file"), Some(5));
        assert_eq!(line_of(source, "files"), Some(2));
        assert_eq!(line_of(source, "path"), None);
        let set =
            "{% set a, b = c %}\n{{ a ~ b }}\n{%- macro m(p) -%}{{ p }}{% endmacro %}\n{{ m(p) }}";
        assert_eq!((line_of(set, "c"), line_of(set, "p")), (Some(1), Some(4)));
        // Set above, so only where it stands at all.
        assert_eq!(line_of(set, "a"), Some(2));
        assert_eq!(line_of("{% raw %}{{ q }}{% endraw %}\n{{ q }}", "q"), Some(2));
        assert_eq!(line_of("{{ 'it\\'s }} x' ~\n x }}", "x"), Some(2));
    }

    #[test]
    fn borrowing_is_named() {
        let source = "include\n{%- include 'a' %}{% if x %}\n{% import \"b\" as c %}";
        assert_eq!(borrowing(source), [("include", 2), ("import", 3)]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|raw|endraw|for|in|endfor|set|macro|x|é|'|\"|\\\\|=|,|\\.|\\||-| |\n){0,60}") {
            let lines = text.matches('\n').count() + 1;
            prop_assert!(line_of(&text, "x").is_none_or(|line| line <= lines));
            borrowing(&text);
        }
    }
}
