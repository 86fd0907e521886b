//! Every environment variable that the core reads, in one place; the README has them in a table.
//!
//! They are read when a network is loaded and never in a forward: a program may change its environment
//! while forwards run, and the C library's `getenv` crashes if another thread calls `setenv`. In Python the
//! interpreter's lock keeps the two apart, so the binding reads them before it releases the lock.

/// An environment variable.
pub struct Knob {
    /// The variable's name.
    pub name: &'static str,
}

/// The default tier of kernels: portable, avx2 or avx512.
pub const ISA: Knob = Knob {
    name: "RESNET_RS_ISA",
};

/// The default number of threads.
pub const NUM_THREADS: Knob = Knob {
    name: "RESNET_RS_NUM_THREADS",
};

/// Read after [`NUM_THREADS`]; rayon's own variable.
pub const RAYON_NUM_THREADS: Knob = Knob {
    name: "RAYON_NUM_THREADS",
};

/// Read last; schedulers such as Ray and Spark set it for their workers.
pub const OMP_NUM_THREADS: Knob = Knob {
    name: "OMP_NUM_THREADS",
};

impl Knob {
    /// The value, if the variable is set and not empty. No other thread may change the environment
    /// meanwhile.
    pub fn read(&self) -> Option<String> {
        let value = std::env::var_os(self.name)?;
        (!value.is_empty()).then(|| value.to_string_lossy().into_owned())
    }
}
