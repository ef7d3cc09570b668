//! Templates: texts of the operator's with the facts of a denial filled in.

use crate::digits::Digits;
use crate::plan::Unit;

/// A text with placeholders, read and found valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Word(Word),
}

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Limit,
    Max,
    Unit,
    Per,
    RetryAfter,
    Plan,
    Consumer,
}

const WORDS: [(&str, Word); 7] = [
    ("limit", Word::Limit),
    ("max", Word::Max),
    ("unit", Word::Unit),
    ("per", Word::Per),
    ("retry_after", Word::RetryAfter),
    ("plan", Word::Plan),
    ("consumer", Word::Consumer),
];

/// What one denial fills in.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The limit's name.
    pub limit: &'a str,
    /// Units per window.
    pub max: u64,
    /// What is counted.
    pub unit: Unit,
    /// The window, in its canonical form.
    pub per: &'a str,
    /// Seconds to wait.
    pub retry_after: u64,
    /// The plan's name.
    pub plan: &'a str,
    /// What the caller is told as its own name.
    pub caller: &'a str,
}

// === impl Template ===

impl Template {
    /// Reads `{limit} {max} {unit} {per} {retry_after} {plan} {consumer}`; `{{` and `}}` are braces. `None` for any other brace.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            plain.push_str(before);
            rest = match from.strip_prefix("{{").map(|after| ('{', after)).or(from.strip_prefix("}}").map(|a| ('}', a)))
            {
                Some((brace, after)) => {
                    plain.push(brace);
                    after
                }
                None => {
                    let (name, after) = from.strip_prefix('{')?.split_once('}')?;
                    let (_, word) = WORDS.iter().find(|(known, _)| *known == name)?;
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Word(*word));
                    after
                }
            };
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        Some(Self(parts))
    }

    /// Whether it names a plan or a limit.
    #[must_use]
    pub fn names_limits(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Word(Word::Limit | Word::Plan)))
    }

    /// The text with everything filled in.
    #[must_use]
    pub fn filled(&self, words: &Words<'_>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Word(Word::Limit) => text.push_str(words.limit),
                Part::Word(Word::Max) => Digits::of(words.max).append_to(&mut text),
                Part::Word(Word::Unit) => text.push_str(words.unit.name()),
                Part::Word(Word::Per) => text.push_str(words.per),
                Part::Word(Word::RetryAfter) => Digits::of(words.retry_after).append_to(&mut text),
                Part::Word(Word::Plan) => text.push_str(words.plan),
                Part::Word(Word::Consumer) => text.push_str(words.caller),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Option<String> {
        let words = Words {
            limit: "images/1m",
            max: 60,
            unit: Unit::Requests,
            per: "1m",
            retry_after: 17,
            plan: "free",
            caller: "acme",
        };
        Template::parse(text).map(|template| template.filled(&words))
    }

    #[test]
    fn every_placeholder_is_filled_in_and_braces_can_be_said() {
        let all = "{limit}|{max}|{unit}|{per}|{retry_after}|{plan}|{consumer}";
        assert_eq!(filled(all).as_deref(), Some("images/1m|60|requests|1m|17|free|acme"));
        assert_eq!(filled("ä{{max}} {{{max}}} }}{{").as_deref(), Some("ä{max} {60} }{"));
        assert_eq!(filled("").as_deref(), Some(""));
    }

    #[test]
    fn other_braces_are_refused() {
        for text in ["{", "}", "{max", "max}", "{}", "{Max}", "{ max }", "{key}", "{max}}", "{{max}", "{{{max}}"] {
            assert_eq!(filled(text), None, "{text}");
        }
    }

    #[test]
    fn names_of_plans_and_limits_are_noticed() {
        for (text, names) in [("{limit}", true), ("for {plan}", true), ("{max} {consumer}", false), ("{{plan}}", false)]
        {
            assert_eq!(Template::parse(text).unwrap().names_limits(), names, "{text}");
        }
    }
}
