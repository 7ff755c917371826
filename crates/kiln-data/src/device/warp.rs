//! Where pixels come from, and fetching them from there.

use burn::tensor::{Device, Int, Tensor};

use super::augment::Padding;

/// Control points per side of an elastic field: three cells, one more around them.
pub(super) const LATTICE: usize = 6;

/// Standard deviation of the field where the control points' is 1: the root of the mean, over a cell, of the sum of
/// the squared B-spline weights, once for each axis. That mean is 151/315.
pub(super) const LATTICE_STD: f64 = 151.0 / 315.0;

/// For each pixel of the result the row and the column it comes from, `[batch, height, width]` each, in pixels of
/// the image: 0 is the middle of the first.
pub(super) struct Grid {
    y: Tensor<3>,
    x: Tensor<3>,
}

fn range(n: usize, device: &Device) -> Tensor<1> {
    Tensor::<1, Int>::arange(0..n as i64, device).float()
}

impl Grid {
    #[cfg(test)]
    pub(super) fn into_rows(self) -> Tensor<3> {
        self.y
    }

    /// A part of `size` whose first pixel is at `corner` (`[batch, 2]`: y, x), mirrored where `flip` (`[batch, 2]`:
    /// top and bottom, left and right) is 1.
    pub(super) fn crop([height, width]: [usize; 2], corner: Tensor<2>, flip: Tensor<2>) -> Self {
        let device = corner.device();
        let [batch, _] = corner.dims();
        let axis = |n: usize, i: usize| -> Tensor<2> {
            let column = |all: &Tensor<2>| all.clone().slice([0..batch, i..i + 1]);
            let (corner, flip) = (column(&corner), column(&flip));
            // i, or n - 1 - i: whole numbers below 2^24, so nothing is rounded.
            let at = range(n, &device).reshape([1, n]).expand([batch, n]);
            let turned = flip.clone() * (n as f32 - 1.0);
            let sign = flip.mul_scalar(-2.0).add_scalar(1.0);
            at * sign.expand([batch, n]) + (turned + corner).expand([batch, n])
        };
        let shape = [batch, height, width];
        Self {
            y: axis(height, 0).reshape([batch, height, 1]).expand(shape),
            x: axis(width, 1).reshape([batch, 1, width]).expand(shape),
        }
    }

    /// Turned, zoomed and shifted by matrices `[batch, 6]` in coordinates of `[-1, 1]` over the image.
    pub(super) fn affine(self, [height, width]: [usize; 2], matrix: Tensor<2>) -> Self {
        let [batch, _] = matrix.dims();
        let shape = self.y.dims();
        let to_unit = |at: Tensor<3>, n: usize| (at + 0.5) * (2.0 / n as f32) - 1.0;
        let from_unit = |at: Tensor<3>, n: usize| (at + 1.0) * (n as f32 / 2.0) - 0.5;
        let (x, y) = (to_unit(self.x, width), to_unit(self.y, height));
        let entry = |i: usize| -> Tensor<3> {
            let column = matrix.clone().slice([0..batch, i..i + 1]);
            column.reshape([batch, 1, 1]).expand(shape)
        };
        let row = |i: usize| x.clone() * entry(i) + (y.clone() * entry(i + 1) + entry(i + 2));
        Self {
            x: from_unit(row(0), width),
            y: from_unit(row(3), height),
        }
    }

    /// Displaced by cubic B-splines over `vectors` (`[batch, 2 * LATTICE * LATTICE]`), which span the image.
    pub(super) fn bend(self, [height, width]: [usize; 2], vectors: Tensor<2>) -> Self {
        let [batch, _] = vectors.dims();
        let [_, h, w] = self.y.dims();
        let lattice = vectors.reshape([batch, 2, LATTICE, LATTICE]);
        let rows = weights(self.y.clone(), height).unsqueeze_dim::<5>(1);
        let columns = weights(self.x.clone(), width).unsqueeze_dim::<5>(1);
        // Sum over the lattice, one row of control points at a time, so that no large product is kept.
        let zero = || Tensor::<4>::zeros([batch, 2, h, w], &self.y.device());
        let part = |all: &Tensor<5>, i: usize| -> Tensor<4> {
            let one = all.clone().slice([0..batch, 0..1, i..i + 1, 0..h, 0..w]);
            one.reshape([batch, 1, h, w]).expand([batch, 2, h, w])
        };
        let mut moved = zero();
        for i in 0..LATTICE {
            let mut line = zero();
            for j in 0..LATTICE {
                let vector = lattice.clone().slice([0..batch, 0..2, i..i + 1, j..j + 1]);
                line = line + part(&columns, j) * vector.expand([batch, 2, h, w]);
            }
            moved = moved + line * part(&rows, i);
        }
        let axis = |c: usize| -> Tensor<3> {
            let one = moved.clone().slice([0..batch, c..c + 1, 0..h, 0..w]);
            one.reshape([batch, h, w])
        };
        Self {
            y: self.y + axis(0),
            x: self.x + axis(1),
        }
    }
}

/// The weight of each of the control points along one axis of `n` pixels, `[batch, LATTICE, height, width]`.
fn weights(at: Tensor<3>, n: usize) -> Tensor<4> {
    // The image spans lattice coordinates 1 to LATTICE - 2.
    let cells = (LATTICE - 3) as f32;
    let at = ((at + 0.5) * (cells / n as f32)).clamp(0.0, cells) + 1.0;
    let each = (0..LATTICE).map(|i| {
        // The cubic B-spline: (2 - d)³/6 less 4 (1 - d)³/6, where those are positive.
        let distance = (at.clone() - i as f32).abs();
        let outer = distance.clone().neg().add_scalar(2.0).clamp_min(0.0);
        let inner = distance.neg().add_scalar(1.0).clamp_min(0.0);
        let cube = |t: Tensor<3>| t.clone() * t.clone() * t;
        (cube(outer) - cube(inner) * 4.0) / 6.0
    });
    Tensor::stack(each.collect(), 1)
}

/// Coordinates mirrored at the middles of the first and the last pixel.
fn mirror(at: Tensor<3>, n: usize) -> Tensor<3> {
    if n == 1 {
        return at.zeros_like();
    }
    let last = (n - 1) as f32;
    let folded = at.abs().remainder_scalar(2.0 * last);
    (folded - last).abs().neg().add_scalar(last)
}

/// The values of the nearest pixels; rows and columns that lie outside are black or mirrored.
pub(super) fn nearest(images: Tensor<4>, grid: Grid, padding: Padding) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let Grid { mut y, mut x } = grid;
    if padding == Padding::Mirror {
        (y, x) = (mirror(y, height), mirror(x, width));
    }
    let round = |at: Tensor<3>| (at + 0.5).floor();
    fetch(images, round(y), round(x))
}

/// Linear interpolation between the four nearest pixels.
pub(super) fn linear(images: Tensor<4>, grid: Grid, padding: Padding) -> Tensor<4> {
    let [_, _, height, width] = images.dims();
    let Grid { mut y, mut x } = grid;
    if padding == Padding::Mirror {
        (y, x) = (mirror(y, height), mirror(x, width));
    }
    let (top, left) = (y.clone().floor(), x.clone().floor());
    let (v, u) = (y - top.clone(), x - left.clone());
    let corner = |dy: f32, dx: f32| {
        let weight = |t: &Tensor<3>, d: f32| match d == 0.0 {
            true => t.clone().neg().add_scalar(1.0),
            false => t.clone(),
        };
        let weight = (weight(&v, dy) * weight(&u, dx)).unsqueeze_dim::<4>(1);
        fetch(images.clone(), top.clone() + dy, left.clone() + dx) * weight
    };
    corner(0.0, 0.0) + corner(0.0, 1.0) + corner(1.0, 0.0) + corner(1.0, 1.0)
}

/// The pixels at whole rows `y` and columns `x`, `[batch, height, width]`; what is outside is black.
fn fetch(images: Tensor<4>, y: Tensor<3>, x: Tensor<3>) -> Tensor<4> {
    let [batch, channels, height, width] = images.dims();
    let [_, h, w] = y.dims();
    let (last_y, last_x) = ((height - 1) as f32, (width - 1) as f32);
    let (near_y, near_x) = (y.clone().clamp(0.0, last_y), x.clone().clamp(0.0, last_x));
    let inside = near_y.clone().equal(y).float() * near_x.clone().equal(x).float();
    // Each axis is exact in f32; their product need not be.
    let index = near_y.int() * width as i64 + near_x.int();
    let index = index
        .reshape([batch, 1, h * w])
        .expand([batch, channels, h * w]);
    images
        .reshape([batch, channels, height * width])
        .gather(2, index)
        .reshape([batch, channels, h, w])
        * inside.unsqueeze_dim::<4>(1)
}
