//! Replies in prose that end in a score section.
//!
//! Owns finding the one score: the number that a section headed Score begins with, or the one that
//! its sentence assigns. Two that differ, in one section or in two, or none, is a problem. Fenced
//! blocks and quoted lines are quotations and count for nothing.

use tribunal_core::{Category, verdict::Rationale};

use super::{BadReply, Parsed, on_scale};

/// The headings that a reply may have.
const HEADINGS: [&str; 5] = ["expectations", "reality", "evidence", "explanation", "score"];

/// Words between "score" and the number that it assigns.
const ASSIGNING: [&str; 8] = ["of", "is", "a", "be", "as", "=", "would", "final"];

/// Words behind a number that make it one of several.
const JOINING: [&str; 7] = ["or", "out", "of", "to", "and", "/", "%"];

/// Words of a line that holds little more than a number.
const SHORT_LINE: usize = 3;

pub(super) fn parse(content: &str, category: Category) -> Result<Parsed, BadReply> {
    let sections = sections(content);
    let last = |name: &str| sections.iter().rev().find(|section| section.0 == name);
    let (_, body) = last("score")
        .ok_or_else(|| BadReply("it has no section with the heading `# Score`".to_owned()))?;
    let score = score(body)?;
    // A score that is quoted without a mark looks like the judge's own.
    let before = sections.iter().filter(|section| section.0 == "score");
    if before.filter_map(|(_, body)| first_number(body)).any(|other| other != score) {
        return Err(BadReply("it has several sections `# Score`, and they differ".to_owned()));
    }
    let text = |name: &str| last(name).map_or(String::new(), |(_, body)| body.trim().to_owned());
    let mut explanation = text("explanation");
    if explanation.is_empty() {
        // Many models explain themselves below the score.
        explanation = body.trim().to_owned();
    }
    Ok(Parsed {
        score: on_scale(score, category)?,
        rationale: Rationale {
            expectations: text("expectations"),
            reality: text("reality"),
            evidence: Vec::new(),
            explanation,
            confidence: None,
        },
    })
}

/// The one score that the section's body states.
fn score(body: &str) -> Result<f64, BadReply> {
    let problem = |words: &str| BadReply(format!("below `# Score` stands {words}"));
    let words = words(body);
    let Some(first) = words.first() else { return Err(problem("nothing")) };
    let mut stated: Vec<f64> = Vec::new();
    if let Some(number) = number(first) {
        if words.get(1).is_some_and(|next| JOINING.contains(next)) {
            return Err(problem("more than one number"));
        }
        stated.push(number);
    }
    for (at, word) in words.iter().enumerate() {
        if word.eq_ignore_ascii_case("score") {
            let rest = &words[at + 1..];
            let skipped = rest.iter().take_while(|word| ASSIGNING.contains(word)).count();
            stated.extend(rest.get(skipped).and_then(|word| number(word)));
        }
    }
    if !stated.is_empty() {
        // A line of little more than a number states one too: `0`, below `1`.
        let short = body.lines().map(self::words).filter(|words| words.len() <= SHORT_LINE);
        stated.extend(short.flatten().filter_map(number));
    }
    match stated[..] {
        [] => Err(problem("no number")),
        [first, ref others @ ..] if others.iter().all(|other| *other == first) => Ok(first),
        _ => Err(problem("more than one number")),
    }
}

/// The number that a section's body begins with.
fn first_number(body: &str) -> Option<f64> {
    words(body).first().and_then(|word| number(word))
}

/// The words of a text without the marks around them.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().map(unmarked).filter(|word| !word.is_empty()).collect()
}

/// A word without the marks around it: emphasis, quotes, brackets, points. What changes a number, such
/// as a sign, a per cent or a stroke, stays.
fn unmarked(word: &str) -> &str {
    let mark = |c: char| {
        matches!(
            c,
            '*' | '_'
                | '`'
                | '"'
                | '\''
                | '#'
                | '('
                | ')'
                | '['
                | ']'
                | '{'
                | '}'
                | '.'
                | ','
                | ':'
                | ';'
                | '!'
                | '?'
                | '|'
                | '“'
                | '”'
                | '‘'
                | '’'
                | '「'
                | '」'
                | '。'
                | '，'
                | '：'
                | '•'
                | '…'
                | '\u{fe0f}'
                | '\u{20e3}'
                | '\u{feff}'
                | '\u{200b}'
        )
    };
    let word = word.trim_matches(mark);
    // Dashes between words are none of theirs.
    if word.chars().all(|c| matches!(c, '-' | '–' | '—' | '→')) {
        return "";
    }
    word.trim_end_matches(['-', '–', '—']).trim_end_matches(mark)
}

/// A whole word as a number: `0/1` and `1st` are none.
fn number(word: &str) -> Option<f64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    word.parse().ok().filter(|_| plain)
}

/// The reply's sections: heading in lower case without its marks, and body.
fn sections(content: &str) -> Vec<(String, String)> {
    let mut sections = Vec::new();
    let mut fenced = false;
    for line in content.lines() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            fenced = !fenced;
            continue;
        }
        if fenced || start.starts_with('>') {
            continue;
        }
        match (heading(line), sections.last_mut()) {
            (Some((name, rest)), _) => sections.push((name, rest)),
            (None, Some((_, body))) => {
                body.push('\n');
                body.push_str(line);
            }
            (None, None) => {}
        }
    }
    sections
}

/// The heading that a line is, with what stands behind its colon.
fn heading(line: &str) -> Option<(String, String)> {
    let marks = |c: char| c == '#' || c == '*' || c == '_' || c.is_whitespace();
    let text = line.trim_start_matches(marks);
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let name = name.trim_matches(marks).to_lowercase();
    HEADINGS.contains(&name.as_str()).then(|| (name, rest.trim_matches(marks).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(content: &str) -> Result<f64, String> {
        parse(content, Category::CodeDevelopment).map(|p| p.score).map_err(|e| e.0)
    }

    #[test]
    fn the_last_score_section_counts() {
        for (reply, expected) in [
            ("# Explanation\nFine.\n\n# Score\n1\n", 1.0),
            ("**Score:** 0", 0.0),
            ("# Score\n**1**.", 1.0),
            ("# Reality\n```\n# Score\n1\n```\n# Score\n0", 0.0),
            ("# Score\n0 – The submission does not implement it.", 0.0),
            ("Score: 0.\nThe submission falls short of 1 of 3 parts.", 0.0),
            ("# Score\nI assign a score of 1. It is all there.", 1.0),
            ("# Score\n1\n> Score: 0", 1.0),
        ] {
            assert_eq!(score(reply), Ok(expected), "{reply}");
        }
    }

    #[test]
    fn nothing_is_guessed() {
        for bad in [
            "",
            "It is a 1.",
            "# Score\n0/1",
            "# Score\n0 or 1",
            "# Score\n0.5",
            "# Score\n7",
            "# Score\n-1",
            "# Score",
            "# Score\n1, though one could give a score of 0",
            "# Score\nThe submission is good.",
            "# Score\n1st",
            "```\n# Score\n1",
        ] {
            assert!(score(bad).is_err(), "{bad}");
        }
    }
}
