//! The strides and dilations of a network's stages.

use super::architecture::{Architecture, Shortcut};
use crate::error::Error;

/// The largest dilation: the border of zeros around a map is as wide.
const MAX_DILATION: usize = 32;

/// The steps of a stage's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageSteps {
    /// The stride of the first block.
    pub stride: usize,
    /// The dilation of the first 3x3 convolution of the first block.
    pub first_dilation: usize,
    /// The dilation of the other 3x3 convolutions.
    pub dilation: usize,
}

impl Architecture {
    /// The steps of each stage.
    pub fn stage_steps(&self) -> Vec<StageSteps> {
        let mut before = 1;
        (0..self.blocks.len())
            .map(|stage| {
                let dilation = self.dilation_of(stage);
                let is_last = stage > 0 && stage + 1 == self.blocks.len();
                let stride = match self.last_stride {
                    Some(stride) if is_last => stride,
                    _ if stage == 0 || dilation > before => 1,
                    _ => 2,
                };
                let steps = StageSteps {
                    stride,
                    first_dilation: before,
                    dilation,
                };
                before = dilation;
                steps
            })
            .collect()
    }

    fn dilation_of(&self, stage: usize) -> usize {
        let stated = self.dilation.as_ref().and_then(|all| all.get(stage));
        stated.copied().unwrap_or(1)
    }

    /// Checks the fields about strides, dilations, and shortcuts without weights.
    pub(super) fn check_stages(&self) -> Result<(), Error> {
        let stages = self.blocks.len();
        if let Some(dilation) = &self.dilation {
            let grows = dilation.is_sorted() && dilation.first() == Some(&1);
            if dilation.len() != stages || !grows || dilation[stages - 1] > MAX_DILATION {
                return Err(Error::Argument(format!(
                    "variant.dilation: expected {stages} numbers, one for each stage, from 1 to \
                     {MAX_DILATION}, the first 1 and none smaller than the one before, such as {:?}; \
                     found {dilation:?}",
                    dilated_example(stages)
                )));
            }
        }
        if let Some(stride) = self.stem_stride
            && !(1..=2).contains(&stride)
        {
            return Err(Error::Argument(format!(
                "variant.stem_stride: expected 1 or 2, found {stride}"
            )));
        }
        if let Some(stride) = self.last_stride {
            self.check_last_stride(stride)?;
        }
        if let Shortcut::Pad(_) = self.shortcut {
            self.check_pad()?;
        }
        Ok(())
    }

    fn check_last_stride(&self, stride: usize) -> Result<(), Error> {
        if !(1..=2).contains(&stride) {
            return Err(Error::Argument(format!(
                "variant.last_stride: expected 1 or 2, found {stride}"
            )));
        }
        let last = self.blocks.len() - 1;
        if last == 0 && stride == 2 {
            return Err(Error::Argument(
                "variant.last_stride: expected 1, because the network has one stage, found 2"
                    .into(),
            ));
        }
        if last > 0 && stride == 2 && self.dilation_of(last) > self.dilation_of(last - 1) {
            return Err(Error::Argument(format!(
                "variant.last_stride: expected 1, because variant.dilation {:?} takes the place of \
                 the last stage's stride, found 2",
                self.dilation.as_deref().unwrap_or_default()
            )));
        }
        Ok(())
    }

    /// Zeros can be put around channels, but no channels can be taken away.
    fn check_pad(&self) -> Result<(), Error> {
        let mut channels = self.stem_widths.last().copied().unwrap_or(1);
        for (stage, planes) in self.widths.iter().enumerate() {
            let out = planes * self.expansion;
            if out < channels {
                return Err(Error::Argument(format!(
                    "variant.shortcut: \"pad\" adds channels, but layer{} goes from {channels} to \
                     {out}; expected \"conv\" or other widths",
                    stage + 1
                )));
            }
            channels = out;
        }
        Ok(())
    }
}

/// The dilations of a network whose last two strides are dilations.
fn dilated_example(stages: usize) -> Vec<usize> {
    let of_stage = |stage: usize| 1 << (stage + 3).saturating_sub(stages).min(2);
    let mut example: Vec<usize> = (0..stages).map(of_stage).collect();
    example[0] = 1;
    example
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::architecture::{PadShortcut, Reduce, Zeros};
    use crate::graph::family;
    use crate::graph::operations::Kind;

    fn resnet50() -> Architecture {
        family::named("resnet50").unwrap()
    }

    fn steps(architecture: &Architecture) -> Vec<[usize; 3]> {
        let of = |s: StageSteps| [s.stride, s.first_dilation, s.dilation];
        architecture.stage_steps().into_iter().map(of).collect()
    }

    #[test]
    fn a_larger_dilation_takes_the_place_of_a_stride() {
        let mut architecture = resnet50();
        assert_eq!(
            steps(&architecture),
            [[1, 1, 1], [2, 1, 1], [2, 1, 1], [2, 1, 1]]
        );
        architecture.dilation = Some(vec![1, 1, 2, 4]);
        assert_eq!(
            steps(&architecture),
            [[1, 1, 1], [2, 1, 1], [1, 1, 2], [1, 2, 4]]
        );
        // torchvision's replace_stride_with_dilation=[True, False, False].
        architecture.dilation = Some(vec![1, 2, 2, 2]);
        assert_eq!(
            steps(&architecture),
            [[1, 1, 1], [1, 1, 2], [2, 2, 2], [2, 2, 2]]
        );
    }

    #[test]
    fn the_last_stage_may_keep_its_size_without_dilation() {
        let mut architecture = resnet50();
        architecture.last_stride = Some(1);
        assert_eq!(steps(&architecture)[2..], [[2, 1, 1], [1, 1, 1]]);
        architecture.last_stride = Some(2);
        assert_eq!(steps(&architecture)[2..], [[2, 1, 1], [2, 1, 1]]);
    }

    #[test]
    fn the_padding_of_a_dilated_convolution_keeps_the_size() {
        let mut architecture = resnet50();
        architecture.dilation = Some(vec![1, 1, 2, 4]);
        let expected = [
            ("layer2.0.conv2", [2, 1, 1]),
            ("layer3.0.conv2", [1, 1, 1]),
            ("layer3.1.conv2", [1, 2, 2]),
            ("layer4.0.conv2", [1, 2, 2]),
            ("layer4.1.conv2", [1, 4, 4]),
            ("layer4.1.conv1", [1, 1, 0]),
        ];
        for operation in architecture.operations(10, 1) {
            let Kind::Conv(conv) = &operation.kind else {
                continue;
            };
            for (name, numbers) in expected {
                if operation.name == name {
                    let found = [conv.stride, conv.dilation, conv.padding];
                    assert_eq!(found, numbers, "{name}");
                }
            }
        }
    }

    #[test]
    fn impossible_steps_are_refused_by_field() {
        let pad = Shortcut::Pad(PadShortcut {
            reduce: Reduce::Slice,
            zeros: Zeros::End,
        });
        type Change = Box<dyn Fn(&mut Architecture)>;
        let dilation = |d: &'static [usize]| -> Change {
            Box::new(move |a: &mut Architecture| a.dilation = Some(d.to_vec()))
        };
        let cases: Vec<(Change, &[&str])> = vec![
            (dilation(&[1, 1, 2]), &["dilation", "expected 4 numbers"]),
            (dilation(&[1, 2, 1, 2]), &["dilation", "[1, 1, 2, 4]"]),
            (dilation(&[2, 2, 2, 2]), &["dilation", "the first 1"]),
            (dilation(&[1, 1, 1, 33]), &["dilation", "32", "33"]),
            (dilation(&[1, 1, 1, 0]), &["dilation"]),
            (dilation(&[]), &["dilation", "found []"]),
            (
                Box::new(|a| a.stem_stride = Some(3)),
                &["stem_stride", "1 or 2", "found 3"],
            ),
            (
                Box::new(|a| a.last_stride = Some(0)),
                &["last_stride", "1 or 2", "found 0"],
            ),
            (
                Box::new(|a| {
                    a.last_stride = Some(2);
                    a.dilation = Some(vec![1, 1, 1, 2]);
                }),
                &["last_stride", "dilation [1, 1, 1, 2]", "found 2"],
            ),
            (
                Box::new(|a| {
                    a.last_stride = Some(2);
                    (a.blocks, a.widths) = (vec![1], vec![64]);
                }),
                &["last_stride", "one stage"],
            ),
            (
                Box::new(move |a| {
                    a.shortcut = pad;
                    a.widths[2] = 64;
                }),
                &["shortcut", "layer3", "512 to 256"],
            ),
        ];
        for (change, words) in cases {
            let mut architecture = resnet50();
            change(&mut architecture);
            let message = architecture.check().unwrap_err().to_string();
            for word in words {
                assert!(message.contains(word), "{message} lacks {word}");
            }
        }
    }

    #[test]
    fn the_example_has_as_many_numbers_as_stages() {
        assert_eq!(dilated_example(4), [1, 1, 2, 4]);
        assert_eq!(dilated_example(3), [1, 2, 4]);
        assert_eq!(dilated_example(1), [1]);
    }
}
