//! Normalisation of pixels, by table.

/// `(value / 255 - mean) / std` of each channel for each of the 256 values, in f32, rounded after
/// each step as torchvision's `ToTensor` and `Normalize` do: the results are the same to the bit.
#[derive(Clone)]
pub struct Normalization {
    values: Vec<[f32; 256]>,
}

impl Normalization {
    /// For channels with these means and standard deviations, in units of the full range 0 to 1.
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        let channel = |(&mean, &std): (&f32, &f32)| {
            std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std)
        };
        Self {
            values: mean.iter().zip(std).map(channel).collect(),
        }
    }

    /// Normalises pixels one after the other, channels fastest.
    ///
    /// # Panics
    /// If the lengths differ or are not whole pixels.
    pub fn apply(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), out.len());
        let channels = self.values.len();
        assert_eq!(pixels.len() % channels, 0);
        if let [red, green, blue] = &self.values[..] {
            for (out, p) in out.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                out[0] = red[usize::from(p[0])];
                out[1] = green[usize::from(p[1])];
                out[2] = blue[usize::from(p[2])];
            }
        } else {
            for (out, p) in out
                .chunks_exact_mut(channels)
                .zip(pixels.chunks_exact(channels))
            {
                for ((out, &p), values) in out.iter_mut().zip(p).zip(&self.values) {
                    *out = values[usize::from(p)];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalization_rounds_after_each_step() {
        let normalization = Normalization::new(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
        let mut out = [0.0; 6];
        normalization.apply(&[0, 128, 255, 7, 7, 7], &mut out);
        let expect = |value: f32, mean: f32, std: f32| (value / 255.0 - mean) / std;
        assert_eq!(out[0], expect(0.0, 0.485, 0.229));
        assert_eq!(out[1], expect(128.0, 0.456, 0.224));
        assert_eq!(out[2], expect(255.0, 0.406, 0.225));
        assert_eq!(out[5], expect(7.0, 0.406, 0.225));
    }

    #[test]
    fn other_numbers_of_channels_are_normalised_too() {
        let normalization = Normalization::new(&[0.5, 0.25], &[0.5, 1.0]);
        let mut out = [0.0; 4];
        normalization.apply(&[255, 0, 0, 255], &mut out);
        assert_eq!(out, [1.0, -0.25, -1.0, 0.75]);
    }
}
