//! The map that the fully connected layer reads.

use super::architecture::{Architecture, HeadPool};
use super::operations::output_shapes;
use super::preprocessing::Preprocessing;
use crate::error::Error;

/// The side of the map that fc reads and, if the head is not a global pool, that side again with the
/// side of the images.
///
/// # Errors
/// The head's window does not fit images of the config's size.
pub fn head_side(
    architecture: &Architecture,
    preprocessing: &Preprocessing,
) -> Result<(usize, Option<[usize; 2]>), Error> {
    let HeadPool::AvgPool(_) = architecture.head else {
        return Ok((1, None));
    };
    let [height, width] = preprocessing.input_size();
    let image = [height, width, architecture.in_channels];
    let shapes = output_shapes(&architecture.operations(0, 1), image);
    match *shapes.last().unwrap_or(&image) {
        [side, other, _] if side == other && side > 0 && height == width => {
            Ok((side, Some([side, height])))
        }
        [pooled_height, pooled_width, _] => Err(Error::Argument(format!(
            "variant.head: expected a window that makes a square map of square images; of \
             {height} x {width} pixels (preprocessing.crop) it makes {pooled_height} x \
             {pooled_width}"
        ))),
    }
}
