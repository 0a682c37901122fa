//! A model as a tree, without memory for its parameters.

use std::fmt::{self, Write};

use crate::buffer::ModuleBuffer;
use crate::module::{Module, Path, Visitor};
use crate::param::Param;

/// The tree that [`summary`] draws.
#[derive(Clone, Debug)]
pub struct Summary {
    text: String,
    /// Numbers in all parameters.
    pub parameters: usize,
    /// Numbers in trainable parameters.
    pub trainable: usize,
    /// Bytes of parameters and buffers.
    pub bytes: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        write!(f, "{} parameters, {} trainable, {} bytes", self.parameters, self.trainable, self.bytes)
    }
}

/// Draws `module` as a tree of its modules, parameters and buffers, with shapes and counts. Works before there are values.
///
/// ```
/// use cupola_nn::{Module, Param, init::Init, summary};
/// #[derive(Module)]
/// struct Head { weight: Param }
/// #[derive(Module)]
/// struct Net { head: Head }
/// let net = Net { head: Head { weight: Param::new([10, 50_000_000], Init::LINEAR) } };
/// let text = summary(&net).to_string();
/// assert_eq!(text, "Net\n  head: Head\n    weight [10, 50000000] f32\n500000000 parameters, 500000000 trainable, 2000000000 bytes");
/// ```
pub fn summary(module: &(impl Module + ?Sized)) -> Summary {
    let mut tree = Tree::default();
    module.visit(&mut Path::new(), &mut tree);
    Summary { text: tree.text, parameters: tree.parameters, trainable: tree.trainable, bytes: tree.bytes }
}

#[derive(Default)]
struct Tree {
    text: String,
    depth: usize,
    /// Lengths of the paths of the modules entered.
    above: Vec<usize>,
    parameters: usize,
    trainable: usize,
    bytes: usize,
}

impl Tree {
    fn line(&mut self, path: &Path, what: fmt::Arguments<'_>) {
        let above = self.above.last().copied().unwrap_or(0);
        let name = path.as_str().get(above..).unwrap_or_default().trim_start_matches('.');
        let indent = 2 * self.depth;
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "{:indent$}{name}{what}", "");
    }
}

impl<'a> Visitor<'a> for Tree {
    fn param(&mut self, path: &Path, param: &'a Param) {
        let frozen = if param.is_trainable() { "" } else { ", frozen" };
        self.line(path, format_args!(" {} {}{frozen}", param.shape(), param.dtype()));
        let numbers = param.shape().numel();
        self.parameters += numbers;
        self.trainable += if param.is_trainable() { numbers } else { 0 };
        self.bytes += numbers * param.dtype().size();
    }

    fn buffer(&mut self, path: &Path, buffer: &'a ModuleBuffer) {
        self.line(path, format_args!(" {} {}, buffer", buffer.shape(), buffer.dtype()));
        self.bytes += buffer.shape().numel() * buffer.dtype().size();
    }

    fn enter(&mut self, path: &Path, type_name: &'static str) {
        let separator = if path.as_str().is_empty() { "" } else { ": " };
        self.line(path, format_args!("{separator}{type_name}"));
        self.above.push(path.as_str().len());
        self.depth += 1;
    }

    fn leave(&mut self, _path: &Path) {
        self.above.pop();
        self.depth -= 1;
    }
}
