//! Asks: what a request to a model asks for, by its [body] and its path, and what it may take at most.

pub mod body;

use crate::request::{Headers, percent_decode};

/// Bytes of an attachment that are taken for one token: images, sound and documents cost providers far fewer tokens than bytes.
pub const ATTACHED_BYTES_PER_TOKEN: u64 = 64;

/// What the body of a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Bytes of the body.
    pub size: u64,
    /// Those of them that are attachments: long strings of base64.
    pub attached: u64,
    /// It is one whole JSON object.
    pub whole: bool,
    /// Which model, at most [`body::LONGEST_MODEL`] bytes of it.
    pub model: Option<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether it has something for a model: messages, a prompt, input, contents.
    pub asks: bool,
    /// The most tokens that one answer may have.
    pub bound: Option<u64>,
    /// How many answers are asked for, at least one.
    pub answers: u64,
    /// Whether an OpenAI-shaped stream is to report its usage.
    pub reports: bool,
    /// What makes an OpenAI-shaped stream report its usage that would not.
    pub splice: Option<Splice>,
}

/// A change to a body in one place: everything else stays byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where, in bytes from the start.
    pub at: u64,
    /// Bytes that go.
    pub removed: u64,
    /// What comes in their place.
    pub inserted: &'static str,
}

/// What the head of a request says of what it asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The model, where the path names it: Gemini's, and the deployments of Azure.
    pub model: Option<String>,
    /// What kind of answer comes.
    pub answer: Answer,
    /// Whether it is a chat or completion in OpenAI's shape, of a provider that takes `stream_options`.
    pub streams_usage: bool,
}

/// What kind of answer comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// What a model writes.
    #[default]
    Text,
    /// Vectors or scores, which are no tokens.
    Numbers,
    /// Nothing that is charged: counts of tokens, moderation.
    Free,
}

// === impl Ask ===

impl Ask {
    /// Tokens of output at most: the bound that the request sets, or else this one, for each answer.
    #[must_use]
    pub fn output(&self, target: &Target, otherwise: u64) -> u64 {
        match target.answer {
            Answer::Text => self.bound.unwrap_or(otherwise).saturating_mul(self.answers.max(1)),
            Answer::Numbers | Answer::Free => 0,
        }
    }

    /// Whether the answer will take tokens.
    #[must_use]
    pub fn takes_tokens(&self, target: &Target) -> bool {
        self.asks && target.answer != Answer::Free
    }

    /// What to change in the body so that its stream reports its usage, where it would not and its provider can.
    #[must_use]
    pub fn splice(&self, target: &Target) -> Option<&Splice> {
        let mistral = self.model.as_deref().is_some_and(of_mistral);
        self.splice.as_ref().filter(|_| target.streams_usage && !mistral)
    }
}

/// Whether a name is one of Mistral's own models, as Mistral's API calls them: it refuses `stream_options`, and reports without. Others that
/// serve these models put an organisation in front (`mistralai/…`) or a tag behind (`mistral:latest`).
fn of_mistral(model: &str) -> bool {
    !model.contains(['/', ':']) && (model.contains("stral") || model.contains("mixtral"))
}

// === impl Splice ===

impl Splice {
    fn new(at: u64, removed: u64, inserted: &'static str) -> Self {
        Self { at, removed, inserted }
    }

    /// The changed body; `None` where the place is not in it.
    #[must_use]
    pub fn apply(&self, body: &[u8]) -> Option<Vec<u8>> {
        let start = usize::try_from(self.at).ok()?;
        let end = start.checked_add(usize::try_from(self.removed).ok()?)?;
        Some([body.get(..start)?, self.inserted.as_bytes(), body.get(end..)?].concat())
    }
}

// === impl Target ===

impl Target {
    /// Of a request with these headers.
    #[must_use]
    pub fn of(headers: &Headers) -> Self {
        let target = headers.first(":path").unwrap_or_default();
        let mut parts = target.splitn(2, |byte| *byte == b'?');
        let path = percent_decode(parts.next().unwrap_or_default());
        let query = parts.next().unwrap_or_default();
        let path = String::from_utf8_lossy(&path);
        let path = path.trim_end_matches('/');
        let host = headers.first(":authority").unwrap_or_default().to_ascii_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        let answer = if ends(&["/count_tokens", ":countTokens", "/moderations", "/input_tokens"]) {
            Answer::Free
        } else if ends(&["/embeddings", "/embed", "/rerank", "/rerankings", ":embedContent", ":batchEmbedContents"]) {
            Answer::Numbers
        } else {
            Answer::Text
        };
        // Mistral refuses the field; whether Llama API takes it is not known.
        let strict = [&b"mistral.ai"[..], b"llama.com"];
        let host = host.split(|byte| *byte == b':').next().unwrap_or_default();
        // Azure took it up with this version.
        let version = query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"api-version="));
        let streams_usage = ends(&["/chat/completions", "/v1/completions"])
            && !strict.iter().any(|strict| host.ends_with(strict))
            && version.is_none_or(|version| version >= &b"2024-09-01"[..]);
        Self { model: model(path), answer, streams_usage }
    }
}

/// The model that a path names.
fn model(path: &str) -> Option<String> {
    let after = |marker: &str| path.rsplit_once(marker).map(|(_, rest)| rest);
    let gemini = || after("/models/").or_else(|| after("/tunedModels/"))?.split_once(':').map(|(model, _)| model);
    let azure = || after("/deployments/")?.split_once('/').map(|(model, _)| model);
    let model = gemini().or_else(azure).filter(|model| !model.is_empty())?;
    Some(model.chars().take(body::LONGEST_MODEL).collect())
}
