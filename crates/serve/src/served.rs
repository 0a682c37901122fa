//! A model directory at work: tokenizer, chat template, engine.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use cupola_models::spec::PositionKind;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::{Module, StateDict};
use cupola_tokenizer::chat::{ChatOptions, ChatTemplate};
use cupola_tokenizer::{EncodeOptions, Tokenizer};
use serde_json::{Map, Value, json};

use crate::api::completions::Prompt;
use crate::api::format::Format;
use crate::api::tools::Tools;
use crate::api::{messages, reply};
use crate::engine::{Constraint, Constraints, Engine, EngineConfig, Refused, Stats};
use crate::error::{ApiError, ApiResult, StartError};

/// Names of tokens that end a turn in well-known chat templates.
const TURN_ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"];

/// A model that answers requests.
pub struct Served {
    /// Its name on the wire.
    pub id: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its engine.
    pub engine: Engine,
    /// The longest sequence, prompt and answer together.
    pub context: usize,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// The width of its vectors.
    pub hidden: usize,
    /// Rows of its output layer.
    pub vocabulary: usize,
    /// Numbers in its parameters.
    pub parameters: usize,
    template: Option<ChatTemplate>,
    knows_tools: bool,
    anchor: Option<(u32, Vec<u8>)>,
    constraints: OnceLock<Result<Constraints, String>>,
}

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The longest sequence; what the model was made for when absent.
    pub context: Option<usize>,
    /// What its engine may use.
    pub engine: EngineConfig,
}

/// A chat as tokens.
pub struct ChatPrompt {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Where answers end beside the model's own end, for models without a template.
    pub stop: Option<String>,
}

fn problem(dir: &Path, what: impl ToString) -> StartError {
    StartError::Model { path: dir.to_owned(), what: what.to_string() }
}

/// The seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The token numbers under a key of a directory's file: one, or a list.
fn ids_in(dir: &Path, file: &str, key: &str) -> Vec<u32> {
    let read = || serde_json::from_slice::<Value>(&std::fs::read(dir.join(file)).ok()?).ok();
    let Some(value) = read().and_then(|mut config| config.get_mut(key).map(Value::take)) else { return Vec::new() };
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match &value {
        Value::Array(items) => items.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

/// The model with room for `context` positions, and that number; a warning when it goes beyond what the model was made for.
fn with_context(model: Decoder, context: Option<usize>, dir: &Path) -> Result<(Decoder, usize), StartError> {
    let made_for = model.spec().max_position_embeddings;
    let Some(wanted) = context else { return Ok((model, made_for)) };
    if wanted == 0 {
        return Err(problem(dir, "a context of 0 tokens has no room for anything"));
    }
    if wanted <= made_for {
        return Ok((model, wanted));
    }
    if matches!(model.spec().position, PositionKind::Learned | PositionKind::Sinusoidal) {
        let what = format!("a context of {wanted} tokens is asked for; the model has a table of {made_for} positions");
        return Err(problem(dir, what));
    }
    eprintln!("warning: a context of {wanted} tokens is more than the {made_for} the model was trained for");
    let mut fields = (**model.spec()).clone();
    fields.max_position_embeddings = wanted;
    let spec = ModelSpec::new(fields).map_err(|error| problem(dir, error))?;
    let mut longer = Decoder::new(&spec);
    longer.load_state_dict(&model.state_dict()).map_err(|error| problem(dir, error))?;
    Ok((longer, wanted))
}

impl Served {
    /// Loads a model directory and starts its engine.
    ///
    /// # Errors
    /// When the directory holds no model, or one that is damaged or not known.
    pub fn load(dir: &Path, id: &str, options: &LoadOptions, stats: Arc<Stats>) -> Result<Self, StartError> {
        let model = cupola_models::load(dir).map_err(|error| problem(dir, error))?;
        let tokenizer = Tokenizer::from_dir(dir).map_err(|error| problem(dir, error))?;
        let (model, context) = with_context(model, options.context, dir)?;
        let mut ends: Vec<u32> = tokenizer.eos().into_iter().collect();
        ends.extend(ids_in(dir, "generation_config.json", "eos_token_id"));
        Self::new(model, tokenizer, ends, id, EngineConfig { context, ..options.engine.clone() }, stats)
            .map_err(|what| problem(dir, what))
    }

    /// Puts a model to work that is in memory already. `ends` are tokens that end an answer.
    ///
    /// # Errors
    /// When the tokenizer has tokens that the model does not, its chat template is malformed, or the model does not run.
    pub fn new(
        model: Decoder,
        tokenizer: Tokenizer,
        mut ends: Vec<u32>,
        id: &str,
        config: EngineConfig,
        stats: Arc<Stats>,
    ) -> Result<Self, String> {
        let (context, vocabulary) = (config.context, model.spec().vocab_size);
        if tokenizer.vocab_size() > vocabulary {
            let tokens = tokenizer.vocab_size();
            return Err(format!("the tokenizer has {tokens} tokens, the model {vocabulary}"));
        }
        let turn_ends = TURN_ENDS.iter().filter_map(|name| tokenizer.token_to_id(name));
        ends.extend(turn_ends.filter(|&id| tokenizer.is_special(id)));
        ends.sort_unstable();
        ends.dedup();
        let source = tokenizer.parts().chat_template.clone();
        let template = source.as_ref().map(|_| tokenizer.chat_template().map_err(|e| e.to_string())).transpose()?;
        let ordinary = |&id: &u32| !tokenizer.is_special(id) && tokenizer.token_bytes(id).is_some_and(<[u8]>::is_ascii);
        let first = (0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX)).find(ordinary);
        let anchor = first.and_then(|id| Some((id, tokenizer.decode_bytes(&[id]).ok()?)));
        Ok(Self {
            id: id.to_owned(),
            created: now(),
            context,
            ends,
            hidden: model.spec().hidden_size,
            vocabulary,
            parameters: model.parameter_count(),
            template,
            knows_tools: source.is_some_and(|text| text.contains("tools")),
            anchor,
            constraints: OnceLock::new(),
            tokenizer,
            engine: Engine::new(model, config, stats)?,
        })
    }

    /// The entry of `/v1/models`.
    pub fn card(&self) -> Value {
        json!({
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "cupola",
            "max_model_len": self.context,
            "parameters": self.parameters,
            "chat_template": if self.template.is_some() { "model" } else { "plain" },
        })
    }

    /// The tokens of a text, between the special tokens that the tokenizer puts around texts (its end token aside, behind which
    /// there would be nothing to go on with).
    ///
    /// # Errors
    /// When the text has characters that the vocabulary cannot express.
    pub fn encode(&self, text: &str, special: bool) -> ApiResult<Vec<u32>> {
        let options = EncodeOptions { template: special, ..EncodeOptions::default() };
        let ids = self.tokenizer.encode_with(text, &options);
        let mut ids = ids.map_err(|error| ApiError::malformed(format!("the text cannot be encoded: {error}")))?;
        if special && self.tokenizer.eos().is_some() && ids.last().copied() == self.tokenizer.eos() {
            ids.pop();
        }
        Ok(ids)
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// When it is empty, cannot be encoded, or names a token that does not exist. `field` is named then.
    pub fn prompt(&self, prompt: &Prompt, field: &str) -> ApiResult<Vec<u32>> {
        let ids = match prompt {
            Prompt::Text(text) => self.encode(text, true)?,
            Prompt::Ids(ids) => ids.clone(),
        };
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            let message = format!("`{field}` has the token {id}; the vocabulary has {} tokens", self.vocabulary);
            return Err(ApiError::field(field, message));
        }
        if ids.is_empty() {
            return self.begin().map(|id| vec![id]).ok_or_else(|| {
                ApiError::field(field, format!("`{field}` has no tokens, and this model no token that begins a text"))
            });
        }
        Ok(ids)
    }

    /// The token that stands before a text, for an empty prompt.
    fn begin(&self) -> Option<u32> {
        self.tokenizer.bos().or(self.tokenizer.eos())
    }

    /// The tokens of a chat.
    ///
    /// # Errors
    /// When the template refuses the messages, or one of them contains the text of a control token.
    pub fn chat(&self, chat: &[Value], tools: &Tools, arguments: Map<String, Value>) -> ApiResult<ChatPrompt> {
        let mut chat = chat.to_vec();
        let native = self.template.is_some() && self.knows_tools;
        if tools.offered() && !native {
            match chat.first_mut().filter(|first| first["role"] == "system") {
                Some(first) => {
                    let text = first["content"].as_str().unwrap_or_default();
                    first["content"] = json!(format!("{text}\n\n{}", tools.instructions()));
                }
                None => chat.insert(0, json!({"role": "system", "content": tools.instructions()})),
            }
        }
        if self.template.is_none() {
            let ids = self.encode(&messages::plain(&chat), true)?;
            return Ok(ChatPrompt { ids, stop: Some(messages::PLAIN_STOP.to_owned()) });
        }
        let options = ChatOptions {
            add_generation_prompt: true,
            tools: (tools.offered() && native).then(|| Value::Array(tools.list.clone())),
            extra: arguments,
            ..ChatOptions::default()
        };
        let ids = self.tokenizer.encode_chat(&chat, &options);
        let ids = ids.map_err(|error| ApiError::field("messages", format!("`messages`: {error}")))?;
        Ok(ChatPrompt { ids, stop: None })
    }

    /// The bytes that a token adds to a text.
    pub fn bytes_of(&self, id: u32) -> Vec<u8> {
        if !self.tokenizer.is_special(id)
            && let Some((first, before)) = &self.anchor
            && let Ok(both) = self.tokenizer.decode_bytes(&[*first, id])
            && let Some(own) = both.strip_prefix(&before[..])
        {
            return own.to_vec();
        }
        self.tokenizer.token_bytes(id).map(<[u8]>::to_vec).unwrap_or_default()
    }

    /// A token with its probability, as the wire shows it.
    pub fn named(&self, id: u32, logprob: Option<f32>) -> reply::Named {
        reply::Named { bytes: self.bytes_of(id), logprob }
    }

    /// The constraint for a form. The first one takes a moment, in which the vocabulary is arranged.
    ///
    /// # Errors
    /// When the form is malformed or too large; `field` is named then.
    pub fn constraint(&self, format: &Format, field: &str) -> ApiResult<Option<Constraint>> {
        if *format == Format::Text {
            return Ok(None);
        }
        let constraints = self.constraints.get_or_init(|| Constraints::new(&self.tokenizer));
        let constraints = constraints.as_ref().map_err(|reason| {
            ApiError::field(field, format!("`{field}` is not possible with this model's vocabulary: {reason}"))
        })?;
        constraints.compile(format).map_err(|reason| ApiError::field(field, format!("`{field}`: {reason}")))
    }

    /// How many tokens an answer to a prompt may have.
    ///
    /// # Errors
    /// When the prompt leaves no room for the first one.
    pub fn room(&self, prompt: usize, wanted: Option<usize>, field: &str) -> ApiResult<usize> {
        let left = self.context.saturating_sub(prompt);
        match wanted {
            _ if prompt > self.context => Err(ApiError::context(field, prompt, self.context)),
            Some(0) => Ok(0),
            _ if left == 0 => Err(ApiError::context(field, prompt, self.context)),
            wanted => Ok(wanted.map_or(left, |wanted| wanted.min(left))),
        }
    }

    /// Whether a request may have so many answers, which are all worked on at once.
    ///
    /// # Errors
    /// When they are more than this server works on. `field` is named then.
    pub fn together(&self, choices: usize, field: &str) -> ApiResult<()> {
        let most = self.engine.config().max_concurrent;
        if choices > most {
            let message = format!("`{field}` is {choices}; this server works on at most {most} answers at once");
            return Err(ApiError::field(field, message));
        }
        Ok(())
    }

    /// The error of a queue that takes no more.
    pub fn refused(refused: Refused) -> ApiError {
        match refused {
            Refused::Full { waiting } => ApiError::busy(waiting),
            Refused::Closed => ApiError::unavailable("the model's engine has just ended"),
        }
    }
}
