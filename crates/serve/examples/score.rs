//! Log-likelihoods as the library gives them, without the engine and the server, to compare those of the server with:
//!
//! ```text
//! echo '{"ids": [5, 6, 7, 8], "from": 2}' | cargo run -p cupola-serve --example score -- DIR
//! ```
//!
//! For each line of standard input a line: the sum of the log-probabilities of the tokens from `from` on, and whether each of them was the
//! likeliest.

use std::error::Error;
use std::io::BufRead;

use cupola_tensor::{DType, Segments, Tensor, no_grad};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: score DIR")?;
    let model = cupola_models::load(dir)?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let ids = asked["ids"].as_array().ok_or("`ids` must be an array")?;
        let ids = ids.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>().ok_or("`ids` must be integers")?;
        let from = asked["from"].as_u64().filter(|&from| from > 0).ok_or("`from` must be at least 1")? as usize;
        let tokens = Tensor::from_vec(ids.clone(), [ids.len()]);
        let logits = no_grad(|| model.forward(&tokens, &Segments::one(ids.len()), None));
        let (width, logits) = (logits.dim(1), logits.to_dtype(DType::F32).to_vec::<f32>());
        let (mut sum, mut greedy) = (0.0, true);
        for (row, &id) in logits.chunks_exact(width).zip(&ids[1..]).skip(from - 1) {
            let own = row.get(usize::try_from(id)?).ok_or("there is no such token")?;
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let all: f64 = row.iter().map(|&x| f64::from(x - most).exp()).sum();
            sum += f64::from(own - most) - all.ln();
            greedy &= *own >= most;
        }
        println!("{}", json!({"sum": sum, "greedy": greedy}));
    }
    Ok(())
}
