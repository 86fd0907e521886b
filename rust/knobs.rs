//! Every environment variable that the core reads, in one place; the README has them in a table.

/// An environment variable.
pub struct Knob {
    /// The variable's name.
    pub name: &'static str,
}

/// The kernels to use where no tier is asked for: portable, avx2 or avx512.
pub const ISA: Knob = Knob {
    name: "RESNET_RS_ISA",
};

/// The number of threads where none is asked for.
pub const NUM_THREADS: Knob = Knob {
    name: "RESNET_RS_NUM_THREADS",
};

/// Honoured after [`NUM_THREADS`]: what other rayon programs take.
pub const RAYON_NUM_THREADS: Knob = Knob {
    name: "RAYON_NUM_THREADS",
};

/// Honoured last: what schedulers such as Ray and Spark set for their workers.
pub const OMP_NUM_THREADS: Knob = Knob {
    name: "OMP_NUM_THREADS",
};

impl Knob {
    /// The value, where the variable is set and not empty.
    pub fn read(&self) -> Option<String> {
        let value = std::env::var_os(self.name)?;
        (!value.is_empty()).then(|| value.to_string_lossy().into_owned())
    }
}
