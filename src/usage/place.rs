//! Where responses say what they took: the members that lead there, of all providers' formats in one.
//!
//! | format | usage | streamed |
//! |---|---|---|
//! | OpenAI chat, Azure, Mistral, Together, vLLM; legacy completions, embeddings | `usage.prompt_tokens`, … | the same in one of the chunks |
//! | OpenAI responses | `usage.input_tokens`, … | `response.usage` |
//! | Anthropic | `usage.input_tokens`, … | `message.usage`, then `usage` |
//! | Gemini | `usageMetadata` | the same in chunks |
//! | Llama API | `metrics[]` | `event.metrics[]` |
//! | Cohere v2 | `usage.tokens`, `usage.billed_units` | `delta.usage` |
//! | Ollama | `prompt_eval_count`, `eval_count` | the same in the last line |
//!
//! Arrays are seen through: what an item of `choices` says stands where `choices` does.

use super::scanner::{self, Want};

/// A place in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A document: the response, an event's data, a line, an item of a streamed array.
    Root,
    /// `message`: Anthropic's at the start of a stream, Cohere's and Ollama's answer.
    Message,
    /// `response`: OpenAI's at the end of a stream, Ollama's generated text.
    Response,
    /// `delta`: more text by itself (OpenAI's responses) or inside (Anthropic, Cohere).
    Delta,
    /// `event`: the Llama API's.
    Event,
    /// Text that was written, or something that holds it.
    Answer,
    /// Arguments of a call: written, whatever is in there.
    Arguments,
    /// The model's name.
    Model,
    /// `usage`, `usageMetadata`.
    Usage,
    /// `usage.tokens`: Cohere's.
    Actual,
    /// `usage.billed_units`: Cohere's.
    Billed,
    /// Of which the input was.
    InputDetails,
    /// Of which the output was.
    OutputDetails,
    /// `metrics`: the Llama API's list.
    Metrics,
    /// One of them.
    Metric,
    /// What it counts.
    MetricName,
    /// How many.
    MetricValue,
    /// A number of tokens.
    Number(Count),
}

/// What is counted, by what it is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The prompt, with what was cached of it.
    Prompt,
    /// What tools added to a prompt, and is not in [`Count::Prompt`].
    Tools,
    /// The input, with what was cached of it unless that is in [`Count::Read`] and [`Count::Written`].
    Input,
    /// Input that was written to the cache, and is not in [`Count::Input`].
    Written,
    /// Input that was read from the cache, and is not in [`Count::Input`].
    Read,
    /// What of the prompt or input was read from the cache.
    Cached,
    /// The output.
    Output,
    /// Reasoning that is not in [`Count::Output`].
    Thoughts,
    /// Reasoning that is in the output.
    Reasoning,
    /// Everything.
    Total,
    /// Input that is billed.
    BilledInput,
    /// Output that is billed.
    BilledOutput,
}

/// How many kinds of [`Count`] there are.
pub(super) const COUNTS: usize = 12;

impl scanner::Place for Place {
    const ROOT: Self = Self::Root;

    fn member(self, name: &[u8]) -> Option<Self> {
        use Place::*;
        Some(match (self, name) {
            (Root, b"usageMetadata") => Usage,
            (Root, b"message") => Message,
            (Root, b"response") => Response,
            (Root, b"delta") => Delta,
            (Root, b"event") => Event,
            (Root, b"choices" | b"candidates" | b"output" | b"content" | b"completion_message" | b"thinking") => Answer,
            (Root, b"prompt_eval_count") => Number(Count::Prompt),
            (Root, b"eval_count") => Number(Count::Output),
            (Root, b"modelVersion") => Model,
            (Root | Message | Response, b"model") => Model,
            (Root | Message | Response | Delta, b"usage") => Usage,
            (Root | Event, b"metrics") => Metrics,
            (Event, b"delta") => Answer,
            (Answer | Message | Delta, b"arguments" | b"args" | b"input") => Arguments,
            (Answer | Message | Delta, _) => return answer(name),
            (Usage, b"prompt_tokens" | b"promptTokenCount") => Number(Count::Prompt),
            (Usage, b"toolUsePromptTokenCount") => Number(Count::Tools),
            (Usage | Actual, b"input_tokens") => Number(Count::Input),
            (Usage, b"cache_creation_input_tokens") => Number(Count::Written),
            (Usage, b"cache_read_input_tokens") => Number(Count::Read),
            (Usage | InputDetails, b"cached_tokens") | (Usage, b"cachedContentTokenCount") => Number(Count::Cached),
            (Usage, b"completion_tokens" | b"candidatesTokenCount") => Number(Count::Output),
            (Usage | Actual, b"output_tokens") => Number(Count::Output),
            (Usage, b"thoughtsTokenCount") => Number(Count::Thoughts),
            (OutputDetails, b"reasoning_tokens" | b"thinking_tokens") => Number(Count::Reasoning),
            (Usage, b"total_tokens") => Number(Count::Total),
            (Usage, b"prompt_tokens_details" | b"input_tokens_details") => InputDetails,
            (Usage, b"completion_tokens_details" | b"output_tokens_details") => OutputDetails,
            (Usage, b"tokens") => Actual,
            (Usage, b"billed_units") => Billed,
            (Billed, b"input_tokens") => Number(Count::BilledInput),
            (Billed, b"output_tokens") => Number(Count::BilledOutput),
            (Metric, b"metric") => MetricName,
            (Metric, b"value") => MetricValue,
            _ => return None,
        })
    }

    fn item(self) -> Self {
        match self {
            Self::Metrics => Self::Metric,
            other => other,
        }
    }

    fn want(self) -> Want {
        match self {
            Self::Response | Self::Delta | Self::Answer => Want::Length,
            Self::Arguments => Want::Lengths,
            Self::Model | Self::MetricName => Want::Text,
            _ => Want::Nothing,
        }
    }
}

/// The members of an answer that hold what was written.
fn answer(name: &[u8]) -> Option<Place> {
    let written = matches!(
        name,
        b"text"
            | b"content"
            | b"parts"
            | b"message"
            | b"delta"
            | b"thinking"
            | b"reasoning"
            | b"reasoning_content"
            | b"summary"
            | b"refusal"
            | b"partial_json"
            | b"tool_plan"
            | b"tool_calls"
            | b"function"
            | b"function_call"
            | b"functionCall"
    );
    written.then_some(Place::Answer)
}
