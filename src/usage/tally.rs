//! What a response has said so far, and the rule by which its provider counts.
//!
//! * OpenAI, Azure, Mistral and others of that shape, Gemini, Cohere, Ollama: cached tokens are inside of the input. Anthropic: the input is
//!   `input_tokens` and what was written to the cache and what was read from it.
//! * Reasoning is inside of the output, except for Gemini's thoughts, which come on top. So do the tokens of its tools, on top of the prompt.
//! * A total that is more than its parts (xAI leaves reasoning out of `completion_tokens` but not out of the total): the rest is output.
//! * Anthropic's streams count up: what a later event says replaces what an earlier one said, what it leaves out stays. Everywhere else the last
//!   usage of a stream is the whole.
//! * Cohere: `tokens` is what was read and written, `billed_units` stands in where it is missing.
//! * Numbers: fractions round up, what is negative is 0, what is too large is the largest.

use super::Usage;
use super::place::{COUNTS, Count, Place};
use super::scanner::{Kind, Sink};

/// The numbers, and how much text came without one.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of the usage that is being read.
    draft: Counts,
    /// Of those read.
    counts: Counts,
    /// Bytes of text since output was last counted.
    said: u64,
    /// The output of this document was counted.
    counted: bool,
    model: Option<Box<[u8]>>,
    metric: (Option<Count>, Option<u64>),
}

/// Numbers of tokens, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts([Option<u64>; COUNTS]);

// === impl Tally ===

impl Tally {
    /// A document ends, or breaks off.
    pub fn end(&mut self) {
        self.draft = Counts::default();
        if std::mem::take(&mut self.counted) {
            self.said = 0;
        }
    }

    /// What was reported so far, if anything.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.counts.usage()
    }

    /// Bytes of text that were written since output was last counted: UTF-8, without escapes. Documents count as a whole: usage covers all text
    /// of its document, wherever in it.
    #[must_use]
    pub fn said(&self) -> u64 {
        if self.counted { 0 } else { self.said }
    }

    /// The first name of a model that the response said.
    #[must_use]
    pub fn model(&self) -> Option<&[u8]> {
        self.model.as_deref()
    }

    /// Takes what is in the draft for said.
    fn commit(&mut self) {
        let draft = std::mem::take(&mut self.draft);
        if draft == Counts::default() {
            return;
        }
        self.counted |= [Count::Output, Count::Thoughts, Count::BilledOutput].into_iter().any(|count| draft.has(count));
        // Only who says `input_tokens` leaves out what it said before.
        if self.counts.has(Count::Input) && !draft.has(Count::Prompt) {
            self.counts.update(&draft);
        } else {
            self.counts = draft;
        }
    }
}

impl Sink for Tally {
    type Place = Place;

    fn begin(&mut self, place: Place, kind: Kind) {
        if place == Place::Metric && kind == Kind::Object {
            self.metric = (None, None);
        }
    }

    fn end(&mut self, place: Place, kind: Kind) {
        match (place, kind) {
            (Place::Usage, Kind::Object) | (Place::Metrics, Kind::Array) => self.commit(),
            (Place::Metric, Kind::Object) => {
                if let (Some(count), Some(value)) = self.metric {
                    self.draft.set(count, value);
                }
            }
            (Place::Root, Kind::Object) => {
                self.commit();
                self.end();
            }
            _ => {}
        }
    }

    fn length(&mut self, bytes: u64) {
        self.said = self.said.saturating_add(bytes);
    }

    fn text(&mut self, place: Place, text: &[u8]) {
        match place {
            Place::Model if self.model.is_none() && !text.is_empty() => self.model = Some(text.into()),
            Place::MetricName => {
                self.metric.0 = match text {
                    b"num_prompt_tokens" => Some(Count::Prompt),
                    b"num_completion_tokens" => Some(Count::Output),
                    b"num_total_tokens" => Some(Count::Total),
                    _ => None,
                }
            }
            _ => {}
        }
    }

    fn word(&mut self, place: Place, word: &[u8]) {
        let Some(value) = number(word) else {
            return;
        };
        match place {
            Place::Number(count) => self.draft.set(count, value),
            Place::MetricValue => self.metric.1 = Some(value),
            _ => {}
        }
    }
}

/// The tokens that a JSON number says.
fn number(word: &[u8]) -> Option<u64> {
    let word = std::str::from_utf8(word).ok()?;
    if let Ok(whole) = word.parse() {
        return Some(whole);
    }
    // Not the words that Rust takes for numbers and JSON does not.
    if !word.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let fraction: f64 = word.parse().ok()?;
    // Saturates, and is 0 below it.
    Some(fraction.ceil() as u64)
}

// === impl Counts ===

impl Counts {
    fn get(&self, count: Count) -> Option<u64> {
        self.0.get(count as usize).copied().flatten()
    }

    fn has(&self, count: Count) -> bool {
        self.get(count).is_some()
    }

    fn set(&mut self, count: Count, value: u64) {
        if let Some(known) = self.0.get_mut(count as usize) {
            *known = Some(value);
        }
    }

    /// What is known anew replaces what was known.
    fn update(&mut self, newer: &Self) {
        for (known, newer) in self.0.iter_mut().zip(newer.0) {
            *known = newer.or(*known);
        }
    }

    fn usage(&self) -> Option<Usage> {
        if *self == Self::default() {
            return None;
        }
        let part = |count| self.get(count).unwrap_or(0);
        let plus = |whole: u64, more: &[Count]| more.iter().fold(whole, |sum, &count| sum.saturating_add(part(count)));
        // Some who say `prompt_tokens` repeat what was cached as Anthropic does; it is in there already.
        let input = (self.get(Count::Prompt).map(|prompt| plus(prompt, &[Count::Tools])))
            .or_else(|| self.get(Count::Input).map(|input| plus(input, &[Count::Written, Count::Read])))
            .or_else(|| self.get(Count::BilledInput));
        let output = (self.get(Count::Output).or_else(|| self.get(Count::Thoughts).map(|_| 0)))
            .map(|output| plus(output, &[Count::Thoughts]))
            .or_else(|| self.get(Count::BilledOutput));
        let (input, output) = match (input, output, self.get(Count::Total)) {
            (Some(input), output, Some(total)) => (input, output.unwrap_or(0).max(total.saturating_sub(input))),
            (None, output, Some(total)) => {
                let output = output.unwrap_or(0);
                (total.saturating_sub(output), output)
            }
            (input, output, None) => (input.unwrap_or(0), output.unwrap_or(0)),
        };
        let cached = self.get(Count::Cached).unwrap_or(part(Count::Read)).min(input);
        let reasoning = plus(part(Count::Reasoning), &[Count::Thoughts]).min(output);
        Some(Usage { input, cached, output, reasoning })
    }
}
