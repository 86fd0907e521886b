//! The numbers of an optimiser's step.

/// The rule of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent.
    Sgd {
        /// The part of the last step that is taken again; 0 for none.
        momentum: f64,
        /// Looks one step of momentum ahead.
        nesterov: bool,
    },
    /// AdamW.
    AdamW {
        /// The part of the mean of gradients that a step keeps.
        beta1: f64,
        /// The part of the mean of squares that a step keeps.
        beta2: f64,
        /// Keeps steps finite.
        eps: f64,
    },
}

/// The numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyperparameters {
    /// The rule.
    pub method: Method,
    /// The learning rate, which a parameter's own factor multiplies.
    pub lr: f64,
    /// The decay of those parameters that decay.
    pub weight_decay: f64,
    /// The largest norm of all gradients together; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// The part of the running averages that a step keeps; None keeps no averages.
    pub average: Option<f64>,
}

/// A parameter's own part in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The factor of the learning rate.
    pub lr_scale: f64,
    /// Takes part in weight decay.
    pub decays: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            lr_scale: 1.0,
            decays: true,
        }
    }
}
