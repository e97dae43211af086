//! The parameters of a module one by one, under the names that a checkpoint has for them.

use super::{Names, place::Place};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::Tensor,
};

/// What is done with each parameter of a module; see [`Names::map`].
pub trait Parameters {
    /// Takes the parameter that a checkpoint calls `name` and gives what the module is to hold instead.
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D>;
}

impl Names {
    /// Replaces each float parameter of `module` that is not a part of a matrix in [blocks](crate::quant). Parameters that were not
    /// drawn yet are.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use deepseek_ocr_core::{Names, Parameters, StoredLinearConfig};
    ///
    /// struct Count(usize);
    ///
    /// impl Parameters for Count {
    ///     fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
    ///         assert!(name == "head.weight" || name == "head.bias");
    ///         self.0 += tensor.shape().num_elements();
    ///         tensor
    ///     }
    /// }
    ///
    /// let mut count = Count(0);
    /// let layer = StoredLinearConfig::new(3, 2).init(&Device::default());
    /// Names(&[("", "head.")]).map(layer, &mut count);
    /// assert_eq!(count.0, 8);
    /// ```
    pub fn map<M: Module>(&self, module: M, parameters: &mut impl Parameters) -> M {
        module.map(&mut Walk { place: Place::new(self), parameters })
    }
}

struct Walk<'a, P> {
    place: Place<'a>,
    parameters: &'a mut P,
}

impl<P: Parameters> ModuleMapper for Walk<'_, P> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.place.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.place.matrix_name().is_some() {
            return param;
        }
        let tensor = self.parameters.parameter(&self.place.tensor_name(), param.val());
        Param::initialized(param.id, tensor)
    }
}
