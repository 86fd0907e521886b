//! Every environment variable that the library reads, in one place.

/// An environment variable and what it does.
pub struct Knob {
    /// The variable's name.
    pub name: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

/// Forces a tier of kernels.
pub const ISA: Knob = Knob {
    name: "RESNET_RS_ISA",
    help: "portable, avx2 or avx512: the kernels to use where no isa= is given",
};

/// The number of threads, ours first.
pub const NUM_THREADS: Knob = Knob {
    name: "RESNET_RS_NUM_THREADS",
    help: "the number of threads where no threads= is given",
};

/// Honoured after [`NUM_THREADS`]: what other rayon programs take.
pub const RAYON_NUM_THREADS: Knob = Knob {
    name: "RAYON_NUM_THREADS",
    help: "taken where RESNET_RS_NUM_THREADS is not set",
};

/// Honoured last: what schedulers such as Ray and Spark set for their workers.
pub const OMP_NUM_THREADS: Knob = Knob {
    name: "OMP_NUM_THREADS",
    help: "taken where neither of the two is set",
};

/// Read by the Python package.
pub const PROFILE: Knob = Knob {
    name: "RESNET_RS_PROFILE",
    help: "1: print what each layer took, on stderr, after the first call at each input shape",
};

impl Knob {
    /// The value, where the variable is set and not empty.
    pub fn read(&self) -> Option<String> {
        let value = std::env::var_os(self.name)?;
        (!value.is_empty()).then(|| value.to_string_lossy().into_owned())
    }
}
