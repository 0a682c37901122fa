//! The model.

use std::ops::Range;

use cupola_nn::init::Init;
use cupola_nn::layers::{Embedding, Linear};
use cupola_nn::{Layer, Module, checkpointed};
use cupola_tensor::ops::cross_entropy::{CrossEntropyConfig, Reduction};
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::ops::linear_cross_entropy;
use cupola_tensor::{Segments, Tensor, mode};

use crate::block::Block;
use crate::channels::head;
use crate::mixers::Context;
use crate::norm::{Norm, Stream};
use crate::positions::{RotaryTables, Sinusoids};
use crate::spec::{ModelSpec, PositionKind, ResidualKind};
use crate::state::{MixerState, PagePool, State};

/// The target of a token that does not count.
pub const IGNORE: i64 = -100;

/// A language model that reads from left to right: embedding, layers, norm, head.
///
/// Parameters are called as in LLaMA. One call serves training, reading a prompt and writing token by token; see the
/// crate for an example.
#[derive(Module, Clone)]
pub struct Decoder {
    /// `[V, D]`.
    pub embed_tokens: Embedding,
    /// A vector for each position, where these are learned.
    pub embed_positions: Option<Embedding>,
    /// The layers.
    pub layers: Vec<Block>,
    /// The norm behind the last layer; none where layers end with one.
    pub norm: Option<Norm>,
    /// The head, where it is not the embedding.
    pub lm_head: Option<Linear>,
    #[module(skip)]
    tables: Tables,
    #[module(skip)]
    spec: ModelSpec,
    /// The public family of the directory that it was read from.
    #[module(skip)]
    family: Option<&'static str>,
    /// Layers whose intermediate results are computed again in backward.
    #[module(skip)]
    checkpointed: Vec<bool>,
}

/// What is computed once from the specification.
#[derive(Clone)]
struct Tables {
    rotary: Option<RotaryTables>,
    latent_rotary: Option<RotaryTables>,
    sinusoids: Option<Sinusoids>,
}

impl Decoder {
    /// The model of this specification, without memory for its parameters until they are drawn (`init(seed)`) or loaded.
    pub fn new(spec: &ModelSpec) -> Self {
        let table =
            |rows: usize| Embedding::new(rows, spec.hidden_size).with_init(Init::normal(spec.initializer_range));
        let longest = spec.max_position_embeddings;
        let head = || head(Linear::new(spec.hidden_size, spec.vocab_size), spec.lm_head_bias, spec);
        let norm = || Norm::new(spec.norm, spec.hidden_size, spec.norm_eps);
        Self {
            embed_tokens: table(spec.vocab_size),
            embed_positions: (spec.position == PositionKind::Learned).then(|| table(longest)),
            layers: (0..spec.num_hidden_layers).map(|index| Block::new(spec, index)).collect(),
            norm: (spec.residual != ResidualKind::Post).then(norm),
            lm_head: (!spec.tie_word_embeddings).then(head),
            tables: Tables {
                rotary: RotaryTables::of(spec),
                latent_rotary: RotaryTables::of_latent(spec),
                sinusoids: Sinusoids::of(spec),
            },
            checkpointed: vec![false; spec.num_hidden_layers],
            spec: spec.clone(),
            family: None,
        }
    }

    /// What the model is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The public family of the directory that it was read from, if it was.
    pub(crate) fn family(&self) -> Option<&'static str> {
        self.family
    }

    pub(crate) fn set_family(&mut self, family: &'static str) {
        self.family = Some(family);
    }

    /// The state of a sequence that has not begun, with memory of its own.
    pub fn state(&self) -> State {
        self.state_in(&PagePool::unbounded())
    }

    /// The state of a sequence that has not begun, with memory from this pool.
    pub fn state_in(&self, pool: &PagePool) -> State {
        State::new(self.layers.iter().map(|layer| layer.mixer.state()).collect(), pool)
    }

    /// Bytes that the state of a sequence takes however long it is: what scans and convolutions have come to.
    pub fn bytes_fixed(&self) -> usize {
        self.state().bytes()
    }

    /// Bytes that each token adds to the state of a sequence; they are taken by whole pages of [`PAGE`](crate::state::PAGE) tokens.
    pub fn bytes_per_token(&self) -> usize {
        self.layers.iter().map(|layer| layer.mixer.bytes_per_token()).sum()
    }

    /// [`Decoder::bytes_fixed`] and [`Decoder::bytes_per_token`].
    pub fn state_bytes(&self) -> (usize, usize) {
        (self.bytes_fixed(), self.bytes_per_token())
    }

    /// Has backward compute the intermediate results of these layers again instead of keeping them. Calls with states keep them.
    ///
    /// # Panics
    /// When there is no such layer.
    #[track_caller]
    pub fn set_checkpointed(&mut self, layers: Range<usize>, on: bool) {
        let count = self.layers.len();
        assert!(layers.end <= count, "set_checkpointed: layers {layers:?} of {count}");
        self.checkpointed[layers].fill(on);
    }

    /// What the head reads.
    ///
    /// # Shapes
    /// Integers `tokens [N]`, cut by `segments` -> `[N, D]`. With states, one for each segment, each sequence goes on where its
    /// state stopped, and the state is advanced by the segment's tokens.
    ///
    /// # Panics
    /// When the shapes do not fit, there are not as many states as segments, a state is of another model, or a sequence becomes
    /// longer than `max_position_embeddings` where positions end there.
    #[track_caller]
    pub fn hidden(&self, tokens: &Tensor, segments: &Segments, states: Option<&mut [&mut State]>) -> Tensor {
        let mut states = states;
        let longest = self.check(tokens, segments, states.as_deref());
        let context = Context {
            segments: segments.clone(),
            positions: positions(segments, states.as_deref()),
            rotary: self.tables.rotary.as_ref().map(|tables| tables.reaching(longest)),
            latent_rotary: self.tables.latent_rotary.as_ref().map(|tables| tables.reaching(longest)),
            causal: true,
        };
        let mut stream = Stream::new(self.embed(tokens, &context.positions, longest));
        for (index, layer) in self.layers.iter().enumerate() {
            match &mut states {
                Some(states) => {
                    let own: Vec<&mut MixerState> = states.iter_mut().map(|state| state.layer_mut(index)).collect();
                    layer.forward(&mut stream, &context, Some(own));
                }
                None if self.checkpointed[index] && mode::is_recording() => {
                    let context = context.clone();
                    let x = stream.value();
                    let forward = move |layer: &Block, x: &[Tensor]| {
                        let mut stream = Stream::new(x[0].clone());
                        layer.forward(&mut stream, &context, None);
                        vec![stream.into_value()]
                    };
                    stream.set(checkpointed(layer, &[&x], forward).swap_remove(0));
                }
                None => layer.forward(&mut stream, &context, None),
            }
        }
        if let Some(states) = states {
            states.iter_mut().zip(segments.iter()).for_each(|(state, range)| state.advance(range.len()));
        }
        match &self.norm {
            Some(norm) => norm.of(&mut stream),
            None => stream.into_value(),
        }
    }

    /// The head: what each token says about the next.
    ///
    /// # Shapes
    /// `[M, D]` -> `[M, V]`.
    #[track_caller]
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => linear(hidden, &self.embed_tokens.weight, None, Activation::None),
        }
    }

    /// The logits of all tokens, `[N, V]`; see [`Decoder::hidden`].
    ///
    /// # Panics
    /// As [`Decoder::hidden`].
    #[track_caller]
    pub fn forward(&self, tokens: &Tensor, segments: &Segments, states: Option<&mut [&mut State]>) -> Tensor {
        self.logits(&self.hidden(tokens, segments, states))
    }

    /// The sum of the cross-entropy over all tokens whose target is not [`IGNORE`], in f32 (f64 for f64).
    ///
    /// # Shapes
    /// Integers `tokens [N]` and `targets [N]` -> a scalar.
    ///
    /// # Panics
    /// As [`Decoder::hidden`], and when a target is no token.
    #[track_caller]
    pub fn loss_sum(&self, tokens: &Tensor, targets: &Tensor, segments: &Segments) -> Tensor {
        let config = CrossEntropyConfig {
            reduction: Reduction::Sum,
            ignore_index: Some(IGNORE),
            ..CrossEntropyConfig::default()
        };
        let hidden = self.hidden(tokens, segments, None);
        match &self.lm_head {
            None => linear_cross_entropy(&hidden, &self.embed_tokens.weight, targets, &config),
            Some(head) if head.bias.is_none() => {
                linear_cross_entropy(&head.effective_input(&hidden), &head.effective_weight(), targets, &config)
            }
            Some(head) => head.forward(&hidden).cross_entropy(targets, &config),
        }
    }

    fn embed(&self, tokens: &Tensor, positions: &Tensor, longest: usize) -> Tensor {
        let mut x = self.embed_tokens.forward(tokens);
        if let Some(table) = &self.embed_positions {
            x = x + table.forward(positions);
        }
        if let Some(table) = &self.tables.sinusoids {
            x = &x + table.rows(positions, longest).to_dtype(x.dtype());
        }
        let dropout = self.spec.embedding_dropout.unwrap_or(self.spec.dropout);
        if dropout > 0.0 { x.dropout(dropout) } else { x }
    }

    /// How long the longest sequence will be.
    #[track_caller]
    fn check(&self, tokens: &Tensor, segments: &Segments, states: Option<&[&mut State]>) -> usize {
        assert!(
            tokens.rank() == 1 && tokens.dim(0) == segments.total() && tokens.dtype().is_integer(),
            "hidden: tokens {} {} for segments of {} tokens, expected integers [{}]",
            tokens.dtype(),
            tokens.shape(),
            segments.total(),
            segments.total()
        );
        if let Some(states) = states {
            assert_eq!(states.len(), segments.count(), "hidden: the number of states is not that of segments");
            let fits = states.iter().all(|state| state.layer_count() == self.layers.len());
            assert!(fits, "hidden: a state is of another model than this one of {} layers", self.layers.len());
        }
        let begin = |index: usize| states.map_or(0, |states| states[index].position());
        let longest = segments.iter().enumerate().map(|(index, range)| begin(index) + range.len()).max().unwrap_or(0);
        assert!(
            self.spec.longest().is_none_or(|most| longest <= most),
            "hidden: a sequence of {longest} tokens, max_position_embeddings = {}",
            self.spec.max_position_embeddings
        );
        longest
    }
}

/// The position of every token in its sequence, `[N]` of i64.
pub(crate) fn positions(segments: &Segments, states: Option<&[&mut State]>) -> Tensor {
    let all: Vec<i64> = segments
        .iter()
        .enumerate()
        .flat_map(|(index, range)| {
            let begin = states.map_or(0, |states| states[index].position());
            (begin..begin + range.len()).map(|position| position as i64)
        })
        .collect();
    let count = all.len();
    Tensor::from_vec(all, [count])
}
