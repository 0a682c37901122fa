//! `cupola tokenizer train`.

use crate::exit::Failure;
use crate::input;
use crate::terminal::grouped;
use anyhow::Context;
use clap::{Args, ValueEnum};
use cupola_tokenizer::Tokenizer;
use cupola_tokenizer::model::bpe::Alphabet;
use cupola_tokenizer::split::{PreTokenizer, Step};
use cupola_tokenizer::train::{BpeTrainer, Progress, TieBreak, UnigramTrainer, WordPieceTrainer};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
#[command(after_help = "\
The output is a tokenizer.json if it ends in .json, otherwise a model directory. Equal text gives equal files.")]
pub struct Train {
    /// Files of text; standard input without any or for `-`
    files: Vec<PathBuf>,
    /// Where to write
    #[arg(short, long)]
    output: PathBuf,
    /// What to train
    #[arg(long, value_enum, default_value_t = Kind::Bpe)]
    model: Kind,
    /// Number of tokens, with the special ones
    #[arg(long, default_value_t = 4096)]
    vocab_size: usize,
    /// Least number of times that a pair (for unigram: a piece) has to occur
    #[arg(long)]
    min_frequency: Option<u64>,
    /// A special token; may be given several times [default: <|endoftext|> for bpe, those of the model's family for others]
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// How text is cut into pieces: the name of a vocabulary (cl100k_base, gpt2, ...) or a regular expression
    #[arg(long, value_name = "NAME|REGEX")]
    pattern: Option<String>,
    /// Also cut words before each hyphen between two letters
    #[arg(long)]
    syllables: bool,
    /// Which of two equally frequent pairs is merged first (bpe)
    #[arg(long, value_enum)]
    tie_break: Option<Tie>,
    /// Characters that are tokens even if the text does not have them (all but bpe)
    #[arg(long, value_name = "CHARACTERS")]
    initial_alphabet: Option<String>,
    /// Keep only so many of the most frequent characters (bpe-chars, wordpiece)
    #[arg(long, value_name = "N")]
    limit_alphabet: Option<usize>,
    /// Print one JSON object with what was made
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Byte-pair encoding over bytes: any text has ids
    Bpe,
    /// Byte-pair encoding over characters
    BpeChars,
    /// Unigram language model, as SentencePiece's
    Unigram,
    /// WordPiece, as BERT's
    Wordpiece,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tie {
    /// As the Hugging Face trainer
    HuggingFace,
    /// As trainers of .tiktoken files
    ByteValue,
}

impl Train {
    pub fn run(self) -> anyhow::Result<()> {
        self.refuse_what_the_model_has_not()?;
        let sources =
            input::or_stdin(&self.files).iter().map(|path| input::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
        let texts = sources.iter().map(|source| source.text()).collect::<Result<Vec<&str>, _>>()?;
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let lines = texts.iter().flat_map(|text| text.split_inclusive('\n'));
        let begin = Instant::now();
        let bar = Bar::new(bytes as u64);
        let tokenizer = self.train(lines, &mut |progress| bar.show(progress))?;
        bar.0.finish_and_clear();
        let is_file = self.output.extension().is_some_and(|extension| extension == "json");
        if is_file {
            tokenizer.save_json(&self.output).context("the tokenizer was not written")?;
        } else {
            tokenizer.save_dir(&self.output).context("the tokenizer was not written")?;
        }
        let (ids, seconds) = (tokenizer.vocab_size(), begin.elapsed().as_secs_f64());
        let output = self.output.display().to_string();
        if self.json {
            println!("{}", json!({ "output": output, "ids": ids, "bytes": bytes, "seconds": seconds }));
        } else {
            println!("{output}: {} ids from {} bytes in {seconds:.1} s", grouped(ids), grouped(bytes));
        }
        Ok(())
    }

    /// An option that the model does not know would be ignored in silence.
    fn refuse_what_the_model_has_not(&self) -> Result<(), Failure> {
        let name = self.model.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let refuse = |option: &str| Err(Failure::Usage(format!("--{option} means nothing for --model {name}")));
        if self.tie_break.is_some() && self.model != Kind::Bpe {
            return refuse("tie-break");
        }
        if self.initial_alphabet.is_some() && self.model == Kind::Bpe {
            return refuse("initial-alphabet");
        }
        if self.limit_alphabet.is_some() && !matches!(self.model, Kind::BpeChars | Kind::Wordpiece) {
            return refuse("limit-alphabet");
        }
        Ok(())
    }

    fn pre_tokenizer(&self, default: &PreTokenizer) -> anyhow::Result<PreTokenizer> {
        let chosen = self.pattern.as_deref().map(PreTokenizer::named).transpose()?;
        let mut steps = chosen.as_ref().unwrap_or(default).steps().to_vec();
        if self.syllables {
            steps.push(Step::Syllables);
        }
        Ok(PreTokenizer::new(steps))
    }

    fn train<'t>(
        &self,
        lines: impl Iterator<Item = &'t str>,
        progress: &mut dyn FnMut(Progress),
    ) -> anyhow::Result<Tokenizer> {
        let alphabet: Vec<char> = self.initial_alphabet.iter().flat_map(|text| text.chars()).collect();
        let special = |default: Vec<String>| if self.special.is_empty() { default } else { self.special.clone() };
        Ok(match self.model {
            Kind::Bpe | Kind::BpeChars => {
                let mut trainer = BpeTrainer::byte_level(self.vocab_size)?;
                trainer.pre_tokenizer = self.pre_tokenizer(&trainer.pre_tokenizer)?;
                trainer.min_frequency = self.min_frequency.unwrap_or(trainer.min_frequency);
                trainer.special_tokens = special(vec!["<|endoftext|>".into()]);
                if self.model == Kind::BpeChars {
                    trainer.alphabet = Alphabet::Chars;
                    trainer.special_tokens = special(vec!["<unk>".into()]);
                    trainer.unknown_token = trainer.special_tokens.iter().find(|token| *token == "<unk>").cloned();
                }
                trainer.initial_alphabet = alphabet;
                trainer.limit_alphabet = self.limit_alphabet;
                trainer.tie_break = match self.tie_break {
                    None | Some(Tie::HuggingFace) => TieBreak::HuggingFace,
                    Some(Tie::ByteValue) => TieBreak::ByteValue,
                };
                trainer.train_with(lines, progress)?
            }
            Kind::Unigram => {
                let mut trainer = UnigramTrainer::new(self.vocab_size);
                trainer.pre_tokenizer = self.pre_tokenizer(&trainer.pre_tokenizer)?;
                trainer.min_frequency = self.min_frequency.unwrap_or(trainer.min_frequency);
                trainer.special_tokens = special(trainer.special_tokens);
                trainer.initial_alphabet = alphabet;
                trainer.train_with(lines.map(|line| line.trim_end_matches(['\r', '\n'])), progress)?
            }
            Kind::Wordpiece => {
                let mut trainer = WordPieceTrainer::bert(self.vocab_size);
                trainer.pre_tokenizer = self.pre_tokenizer(&trainer.pre_tokenizer)?;
                trainer.min_frequency = self.min_frequency.unwrap_or(trainer.min_frequency);
                trainer.special_tokens = special(trainer.special_tokens);
                trainer.initial_alphabet = alphabet;
                trainer.limit_alphabet = self.limit_alphabet;
                trainer.train_with(lines, progress)?
            }
        })
    }
}

/// A bar on standard error, if that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(bytes: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("  {msg:<8} {bar:32} {human_pos}/{human_len}  {eta} left");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars(crate::terminal::bar());
        Self(ProgressBar::new(bytes).with_style(style).with_message("reading"))
    }

    fn show(&self, progress: Progress) {
        match progress {
            Progress::Reading { bytes } => self.0.set_position(bytes),
            Progress::Learning { tokens, of } => {
                self.0.set_message("learning");
                self.0.set_length(of as u64);
                self.0.set_position(tokens as u64);
            }
            _ => {}
        }
    }
}
