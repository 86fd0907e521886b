//! The images of a call, in batches of bounded size, and checks that they fit the network.

use super::network::Network;
use crate::error::Error;
use crate::graph::operations::output_shapes;
use crate::kernels::input::Pixels;
use crate::shape::Shape;

/// Pixels of one image; larger batches of smaller images and smaller batches of larger ones take as long.
const IMAGE_PIXELS: usize = 224 * 224;

/// The images that run as one batch: more would not be faster, and a forward's memory stays the same for any
/// number of them.
const BATCH: usize = 8;

/// On many threads there are as many images that each takes two through the first layers.
const BATCH_PER_THREAD: usize = 2;

/// Images to run, `[batch, height, width, channels]`, contiguous.
#[derive(Clone, Copy, Debug)]
pub enum Images<'a> {
    /// Already normalised.
    F32(&'a [f32]),
    /// Pixels from 0 to 255, normalised with the config's mean and standard deviation.
    U8(&'a [u8]),
}

impl Network {
    /// The pixels of a call, checked against the network and `shape`.
    pub(super) fn pixels<'a>(
        &'a self,
        images: Images<'a>,
        shape: Shape,
    ) -> Result<Pixels<'a>, Error> {
        let Shape {
            batch,
            height,
            width,
        } = shape;
        let channels = self.architecture.in_channels;
        shape.check_sides()?;
        self.check_head(shape)?;
        let pixels = match images {
            Images::F32(x) => Pixels::F32(x),
            Images::U8(x) => Pixels::U8(x, &self.normalization),
        };
        if Some(pixels.len()) != batch.checked_mul(height * width * channels) {
            return Err(Error::Argument(format!(
                "images: expected {batch} x {height} x {width} x {channels} elements, found {}",
                pixels.len()
            )));
        }
        Ok(pixels)
    }

    /// Checks that a head which is not a global pool gets the map that fc's weights are for.
    pub(super) fn check_head(&self, shape: Shape) -> Result<(), Error> {
        let Some([side, expected]) = self.spec.fixed_head else {
            return Ok(());
        };
        let Shape { height, width, .. } = shape;
        let channels = self.architecture.in_channels;
        let shapes = output_shapes(&self.spec.operations, [height, width, channels]);
        let pooled = self.spec.operations.iter().zip(&shapes[1..]);
        let found = pooled
            .filter(|(operation, _)| operation.name == "avgpool")
            .map(|(_, &[height, width, _])| [height, width])
            .next();
        if found == Some([side, side]) {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "images: expected {expected} x {expected} pixels, for which the network's head is \
             made, found {height} x {width}"
        )))
    }
}

/// The images in batches of bounded size for `threads` threads: the first image, the size and the pixels of
/// each.
pub(super) fn batches(
    pixels: Pixels<'_>,
    shape: Shape,
    threads: usize,
) -> impl Iterator<Item = (usize, usize, Pixels<'_>)> {
    let image_len = pixels.len() / shape.batch.max(1);
    sizes(shape, threads).map(move |(first, batch)| {
        let range = first * image_len..(first + batch) * image_len;
        (first, batch, pixels.slice(range))
    })
}

/// The first image and the size of each batch.
pub(super) fn sizes(shape: Shape, threads: usize) -> impl Iterator<Item = (usize, usize)> {
    let at_once = BATCH.max(BATCH_PER_THREAD * threads) * IMAGE_PIXELS;
    let at_once = (at_once / (shape.height * shape.width)).max(1);
    (0..shape.batch)
        .step_by(at_once)
        .map(move |first| (first, at_once.min(shape.batch - first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches of `batch` images of one channel, image `n` having the value n, on one thread: the first
    /// image, the size, and the values of the first and the last pixel.
    fn batches_of(batch: usize, height: usize, width: usize) -> Vec<(usize, usize, [f32; 2])> {
        let images: Vec<f32> = (0..batch)
            .flat_map(|n| vec![n as f32; height * width])
            .collect();
        let shape = Shape {
            batch,
            height,
            width,
        };
        batches(Pixels::F32(&images), shape, 1)
            .map(|(first, size, pixels)| {
                let Pixels::F32(values) = pixels else {
                    panic!("expected the type that was put in")
                };
                assert_eq!(values.len(), size * height * width);
                (first, size, [values[0], values[values.len() - 1]])
            })
            .collect()
    }

    #[test]
    fn batches_have_at_most_eight_images_of_224_x_224() {
        assert_eq!(batches_of(1, 224, 224), [(0, 1, [0.0, 0.0])]);
        assert_eq!(batches_of(8, 224, 224), [(0, 8, [0.0, 7.0])]);
        assert_eq!(
            batches_of(19, 224, 224),
            [
                (0, 8, [0.0, 7.0]),
                (8, 8, [8.0, 15.0]),
                (16, 3, [16.0, 18.0])
            ]
        );
        // As many pixels: 32 images of a quarter of the size.
        assert_eq!(
            batches_of(33, 112, 112),
            [(0, 32, [0.0, 31.0]), (32, 1, [32.0, 32.0])]
        );
    }

    #[test]
    fn on_many_threads_batches_have_two_images_for_each() {
        let shape = Shape {
            batch: 40,
            height: 224,
            width: 224,
        };
        let images = vec![0.0; 40 * 224 * 224];
        let sizes = |threads| {
            batches(Pixels::F32(&images), shape, threads)
                .map(|(_, size, _)| size)
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(4), [8; 5]);
        assert_eq!(sizes(8), [16, 16, 8]);
        assert_eq!(sizes(64), [40]);
    }

    #[test]
    fn an_image_larger_than_a_batch_runs_alone() {
        assert_eq!(
            batches_of(2, 700, 800),
            [(0, 1, [0.0, 0.0]), (1, 1, [1.0, 1.0])]
        );
    }

    #[test]
    fn no_images_make_no_batches() {
        assert_eq!(batches_of(0, 224, 224), []);
    }
}
