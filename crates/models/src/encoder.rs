//! A model that reads a text as a whole (Devlin et al., "BERT", 2018, arXiv:1810.04805).

use cupola_nn::init::Init;
use cupola_nn::layers::{Embedding, LayerNorm, Linear};
use cupola_nn::{Layer, Module, Param};
use cupola_tensor::ops::cross_entropy::{CrossEntropyConfig, Reduction};
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{Segments, Tensor};

use crate::block::Block;
use crate::channels::head;
use crate::channels::mlp::activation;
use crate::decoder::{IGNORE, positions};
use crate::mixers::Context;
use crate::norm::Stream;
use crate::spec::{EncoderHead, EncoderSpec};

/// Embeddings of tokens, positions and parts, their norm, and layers in which every token sees all of its text.
///
/// ```
/// use cupola_models::{Encoder, EncoderSpec};
/// use cupola_nn::Module;
/// use cupola_tensor::{Segments, Tensor, no_grad};
///
/// let model = Encoder::new(&EncoderSpec::preset("bert-nano", 100)?).init(0);
/// // Two texts, of three tokens and of two.
/// let tokens = Tensor::from_vec(vec![1i64, 7, 2, 1, 9], [5]);
/// let segments = Segments::from_lengths(&[3, 2]);
/// let hidden = no_grad(|| model.hidden(&tokens, None, &segments));
/// assert_eq!(no_grad(|| model.masked_lm_logits(&hidden)).shape().dims(), [5, 100]);
/// # Ok::<(), cupola_models::SpecError>(())
/// ```
#[derive(Module, Clone)]
pub struct Encoder {
    /// `[V, D]`.
    pub embed_tokens: Embedding,
    /// A vector for each position.
    pub embed_positions: Embedding,
    /// A vector for each part of a text.
    pub embed_token_types: Embedding,
    /// The norm of their sum.
    pub embed_norm: LayerNorm,
    /// The layers.
    pub layers: Vec<Block>,
    /// What makes one vector of a text, where there is no other use for the encoder than to fill in tokens.
    pub pooler: Option<Linear>,
    /// What fills in hidden tokens.
    pub mlm_head: Option<MlmHead>,
    /// What chooses a class.
    pub classifier: Option<Linear>,
    #[module(skip)]
    spec: EncoderSpec,
}

/// `E norm(act(W x + b)) + c`, with the embedding E.
#[derive(Module, Clone)]
pub struct MlmHead {
    /// W and b.
    pub dense: Linear,
    /// The norm.
    pub norm: LayerNorm,
    /// c, `[V]`.
    pub bias: Param,
}

impl Encoder {
    /// The encoder of this specification, without memory for its parameters until they are drawn (`init(seed)`) or loaded.
    pub fn new(spec: &EncoderSpec) -> Self {
        let (layers, width) = (spec.layers(), spec.hidden_size);
        let table = |rows: usize| Embedding::new(rows, width).with_init(Init::normal(spec.initializer_range));
        let map = |outputs: usize| head(Linear::new(width, outputs), true, layers);
        let norm = || LayerNorm::new(width).with_eps(spec.norm_eps);
        let mlm = || MlmHead { dense: map(width), norm: norm(), bias: Param::new([spec.vocab_size], Init::Zeros) };
        Self {
            embed_tokens: table(spec.vocab_size),
            embed_positions: table(spec.max_position_embeddings),
            embed_token_types: table(spec.type_vocab_size),
            embed_norm: norm(),
            layers: (0..spec.num_hidden_layers).map(|index| Block::new(layers, index)).collect(),
            pooler: (spec.head != EncoderHead::MaskedLm).then(|| map(width)),
            mlm_head: (spec.head == EncoderHead::MaskedLm).then(mlm),
            classifier: (spec.head == EncoderHead::Classification).then(|| map(spec.num_labels)),
            spec: spec.clone(),
        }
    }

    /// What the encoder is.
    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// A vector for each token.
    ///
    /// # Shapes
    /// Integers `tokens [N]`, cut by `segments`; integers `token_types [N]`, zeros when left out -> `[N, D]`.
    ///
    /// # Panics
    /// When the shapes do not fit or a text is longer than `max_position_embeddings`.
    #[track_caller]
    pub fn hidden(&self, tokens: &Tensor, token_types: Option<&Tensor>, segments: &Segments) -> Tensor {
        let count = segments.total();
        let fits = |x: &Tensor| x.shape().dims() == [count] && x.dtype().is_integer();
        assert!(
            fits(tokens) && token_types.is_none_or(fits),
            "hidden: tokens {} {} and token types {:?} for segments of {count} tokens, expected integers [{count}]",
            tokens.dtype(),
            tokens.shape(),
            token_types.map(Tensor::shape)
        );
        let (longest, most) = (segments.longest(), self.spec.max_position_embeddings);
        assert!(longest <= most, "hidden: a text of {longest} tokens, max_position_embeddings = {most}");
        let positions = positions(segments, None);
        let first = || Tensor::from_vec(vec![0i64; count], [count]);
        let types = token_types.cloned().unwrap_or_else(first);
        let x = self.embed_tokens.forward(tokens) + self.embed_token_types.forward(&types);
        let x = self.embed_norm.forward(&(x + self.embed_positions.forward(&positions)));
        let x = if self.spec.dropout > 0.0 { x.dropout(self.spec.dropout) } else { x };
        let context =
            Context { segments: segments.clone(), positions, rotary: None, latent_rotary: None, causal: false };
        let mut stream = Stream::new(x);
        self.layers.iter().for_each(|layer| layer.forward(&mut stream, &context, None));
        stream.into_value()
    }

    /// One vector for each text: `tanh(W x + b)` of its first token.
    ///
    /// # Shapes
    /// `hidden [N, D]`, cut by `segments` into B texts -> `[B, D]`.
    ///
    /// # Panics
    /// When the specification's head fills in tokens, or a text is empty.
    #[track_caller]
    pub fn pooled(&self, hidden: &Tensor, segments: &Segments) -> Tensor {
        let pooler = self.pooler.as_ref().unwrap_or_else(|| panic!("pooled: {}", self.without("a pooler")));
        let starts: Vec<i64> = segments
            .iter()
            .map(|range| {
                assert!(!range.is_empty(), "pooled: a text without tokens has no first one");
                range.start as i64
            })
            .collect();
        let count = starts.len();
        pooler.forward(&hidden.embedding(&Tensor::from_vec(starts, [count]))).tanh()
    }

    /// What may stand in the place of each token.
    ///
    /// # Shapes
    /// `[M, D]`, any rows of [`Encoder::hidden`] -> `[M, V]`.
    ///
    /// # Panics
    /// When the specification has another head.
    #[track_caller]
    pub fn masked_lm_logits(&self, hidden: &Tensor) -> Tensor {
        let head = self.mlm_head.as_ref();
        let head = head.unwrap_or_else(|| panic!("masked_lm_logits: {}", self.without("such a head")));
        let x = head.dense.forward_activated(hidden, activation(self.spec.channel));
        linear(&head.norm.forward(&x), &self.embed_tokens.weight, Some(&head.bias), Activation::None)
    }

    /// To which class each text belongs.
    ///
    /// # Shapes
    /// `hidden [N, D]`, cut by `segments` into B texts -> `[B, classes]`.
    ///
    /// # Panics
    /// When the specification has another head, or a text is empty.
    #[track_caller]
    pub fn class_logits(&self, hidden: &Tensor, segments: &Segments) -> Tensor {
        let classifier = self.classifier.as_ref();
        let classifier = classifier.unwrap_or_else(|| panic!("class_logits: {}", self.without("a classifier")));
        let x = self.pooled(hidden, segments);
        let dropout = self.spec.classifier_dropout.unwrap_or(self.spec.dropout);
        classifier.forward(&if dropout > 0.0 { x.dropout(dropout) } else { x })
    }

    /// The sum of the cross-entropy over all tokens whose target is not [`IGNORE`].
    ///
    /// # Shapes
    /// As [`Encoder::hidden`], integers `targets [N]` -> a scalar.
    ///
    /// # Panics
    /// As [`Encoder::hidden`] and [`Encoder::masked_lm_logits`].
    #[track_caller]
    pub fn masked_lm_loss_sum(
        &self,
        tokens: &Tensor,
        token_types: Option<&Tensor>,
        targets: &Tensor,
        segments: &Segments,
    ) -> Tensor {
        let config = CrossEntropyConfig {
            reduction: Reduction::Sum,
            ignore_index: Some(IGNORE),
            ..CrossEntropyConfig::default()
        };
        self.masked_lm_logits(&self.hidden(tokens, token_types, segments)).cross_entropy(targets, &config)
    }

    fn without(&self, what: &str) -> String {
        format!("an encoder with head = \"{}\" has not {what}", self.spec.head)
    }
}
