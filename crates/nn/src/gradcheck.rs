//! Checking the gradients of a whole module against central differences.

use cupola_core::DType;
use cupola_tensor::{GradcheckError, Tensor, gradcheck, no_grad};

use crate::module::Module;

/// [`gradcheck`](fn@cupola_tensor::gradcheck) of `forward` with respect to every input and every trainable parameter of `module`,
/// all converted to f64. Integer inputs are held constant.
///
/// # Errors
/// As `gradcheck`; floating-point inputs are counted first, in order, then parameters in the order of the fields.
#[track_caller]
pub fn gradcheck_module<M: Module + Clone>(
    module: &M,
    inputs: &[&Tensor],
    forward: impl Fn(&M, &[Tensor]) -> Tensor,
) -> Result<(), GradcheckError> {
    let module = module.clone().to_dtype(DType::F64);
    let double = |x: &Tensor| no_grad(|| x.detach().to_dtype(DType::F64));
    let mut all: Vec<Tensor> = inputs.iter().filter(|x| x.dtype().is_float()).map(|x| double(x)).collect();
    let floats = all.len();
    let parameters = module.named_parameters();
    all.extend(parameters.iter().filter(|(_, param)| param.is_trainable()).map(|(_, param)| param.detach()));
    let function = |given: &[Tensor]| {
        let mut bound = module.clone();
        let trainable = bound.named_parameters_mut().into_iter().filter(|(_, param)| param.is_trainable());
        trainable.zip(&given[floats..]).for_each(|((_, param), tensor)| param.bind(tensor));
        let mut floats = given[..floats].iter();
        let constant = |x: &&Tensor| if x.dtype().is_float() { None } else { Some(x.detach()) };
        let inputs: Vec<Tensor> =
            inputs.iter().filter_map(|x| constant(x).or_else(|| floats.next().cloned())).collect();
        forward(&bound, &inputs)
    };
    gradcheck(function, &all.iter().collect::<Vec<_>>())
}
