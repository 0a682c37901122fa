//! A small network of many operations, trained by plain gradient descent on tensors.

use cupola_tensor::ops::ConvConfig;
use cupola_tensor::ops::cross_entropy::CrossEntropyConfig;
use cupola_tensor::ops::linear::{Activation, linear};
use cupola_tensor::{DType, Rng, Tensor};

const VOCAB: usize = 300;
const BATCH: usize = 4;
const TIME: usize = 65;
const WIDTH: usize = 64;
const HEADS: usize = 4;

/// One Transformer block written out, with a convolution and a gather behind it.
pub struct Network {
    /// All parameters, in the order of `names`.
    pub parameters: Vec<Tensor>,
    tokens: Tensor,
    targets: Tensor,
    places: Tensor,
    mask: Tensor,
}

impl Network {
    /// The names of the parameters.
    pub const NAMES: [&str; 11] =
        ["table", "norm", "norm_bias", "qkv", "out", "norm_2", "up", "up_bias", "down", "kernel", "kernel_bias"];

    /// Parameters and data drawn from one seed.
    pub fn new(dtype: DType) -> Self {
        let shapes: [&[usize]; 11] = [
            &[VOCAB, WIDTH],
            &[WIDTH],
            &[WIDTH],
            &[3 * WIDTH, WIDTH],
            &[WIDTH, WIDTH],
            &[WIDTH],
            &[4 * WIDTH, WIDTH],
            &[4 * WIDTH],
            &[WIDTH, 4 * WIDTH],
            &[WIDTH, WIDTH, 3],
            &[WIDTH],
        ];
        let parameter = |(index, shape): (usize, &&[usize])| {
            let numbers = Tensor::randn(*shape, Rng::seed(index as u64));
            // Weights of norms lie around 1, the rest around 0.
            let centre =
                f64::from(u8::from(Self::NAMES[index].starts_with("norm") && !Self::NAMES[index].ends_with("bias")));
            numbers.affine(0.1, centre).to_dtype(dtype).requires_grad()
        };
        let integers = |below: usize, seed: u64| Tensor::randint(0, below as i64, [BATCH, TIME], Rng::seed(seed));
        Self {
            parameters: shapes.iter().enumerate().map(parameter).collect(),
            tokens: integers(VOCAB, 100),
            targets: integers(VOCAB, 101).flatten(),
            places: integers(TIME, 102).unsqueeze(2).expand([BATCH, TIME, WIDTH]),
            mask: Tensor::ones([TIME, TIME]).tril(0).affine(1e9, -1e9).to_dtype(dtype),
        }
    }

    /// The mean cross-entropy of all tokens.
    pub fn loss(&self) -> Tensor {
        let [table, norm, norm_bias, qkv, out, norm_2, up, up_bias, down, kernel, kernel_bias] = &self.parameters[..]
        else {
            unreachable!("the constructor makes eleven");
        };
        let embedded = table.embedding(&self.tokens);
        let normed = embedded.layer_norm(Some(norm), Some(norm_bias), 1e-5);
        let heads = |x: &Tensor| x.reshape([BATCH, TIME, HEADS, WIDTH / HEADS]).transpose(1, 2);
        let projected = linear(&normed, qkv, None, Activation::None).chunk(-1, 3);
        let [q, k, v] = [0, 1, 2].map(|i| heads(&projected[i]));
        let scores = q.matmul(&k.transpose(-1, -2)) * (1.0 / (WIDTH as f64 / HEADS as f64).sqrt()) + &self.mask;
        let seen = scores.softmax(-1).matmul(&v).transpose(1, 2).flatten_dims(2, 3);
        let x = embedded + linear(&seen, out, None, Activation::None);
        let hidden = linear(&x.rms_norm(Some(norm_2), 1e-6), up, Some(up_bias), Activation::None).gelu();
        let x = x + linear(&hidden, down, None, Activation::None);
        let config = ConvConfig { padding: [1], ..ConvConfig::default() };
        let mixed = x.transpose(1, 2).conv1d(kernel, Some(kernel_bias), config).transpose(1, 2);
        let x = x + mixed.gather(1, &self.places).tanh();
        let logits = linear(&x, table, None, Activation::None).flatten_dims(0, 1);
        logits.cross_entropy(&self.targets, &CrossEntropyConfig::default())
    }

    /// One step of gradient descent; the loss before it.
    pub fn step(&mut self, rate: f64) -> f64 {
        let loss = self.loss();
        let grads = loss.backward();
        for parameter in &mut self.parameters {
            *parameter = (parameter.detach() - &grads[parameter] * rate).requires_grad();
        }
        loss.item()
    }
}
