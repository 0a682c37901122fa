//! The wire: requests read field by field, replies as the official clients expect them.
//!
//! - [`fields`]: one object, whose fields are honoured, refused, or reported as ignored
//! - [`sampling`]: what all ways of generating share
//! - [`messages`]: the messages of a chat
//! - [`tools`]: functions that a model may call
//! - [`calls`]: the calls in an answer, as they are written
//! - [`format`](mod@format): free text, JSON, JSON of a schema
//! - [`chat`], [`completions`], [`embeddings`], [`responses`], [`tokens`]: the requests
//! - [`reply`]: what is sent back

pub mod calls;
pub mod chat;
pub mod completions;
pub mod embeddings;
pub mod fields;
pub mod format;
pub mod messages;
pub mod reply;
pub mod responses;
pub mod sampling;
pub mod tokens;
pub mod tools;

pub use chat::ChatRequest;
pub use completions::CompletionRequest;
pub use embeddings::EmbeddingRequest;
pub use responses::ResponseRequest;
pub use sampling::Sampling;

use fields::Fields;

use crate::error::ApiResult;

/// Fields of the API that have no effect here. They are accepted and reported as ignored.
const WITHOUT_EFFECT: [&str; 8] = [
    "store",
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
];

/// Whether and how a reply is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streaming {
    /// Send the answer as it comes.
    pub on: bool,
    /// End with the numbers of tokens.
    pub include_usage: bool,
}

impl Streaming {
    fn take(fields: &mut Fields, ignored: &mut Vec<String>) -> ApiResult<Self> {
        let on = fields.flag("stream")?.unwrap_or(false);
        let mut include_usage = false;
        if let Some(mut options) = fields.object("stream_options")? {
            if !on {
                let message = "`stream_options` is only allowed when `stream` is true";
                return Err(crate::error::ApiError::field("stream_options", message));
            }
            include_usage = options.flag("include_usage")?.unwrap_or(false);
            ignored.extend(options.ignored());
        }
        Ok(Self { on, include_usage })
    }
}

/// The names left over, with those known to have no effect first.
fn leftovers(fields: Fields, mut ignored: Vec<String>) -> Vec<String> {
    let mut rest = fields.ignored();
    rest.sort_by_key(|name| (!WITHOUT_EFFECT.contains(&name.as_str()), name.clone()));
    ignored.extend(rest);
    ignored
}
