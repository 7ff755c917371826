//! Convolution by matrix products over unfolded images.
//!
//! Unfolding writes, for some output pixels, the input values that each one sees into a column: `[depth, columns]`, depth
//! being channel, then kernel row, then kernel column, as in a weight `[channels_out, depth]`. Then
//!
//! - forward is `weight · columns`,
//! - the gradient of the image is `weightᵀ · grad`, folded back (added up where kernels overlap),
//! - the gradient of the weight is `grad · columnsᵀ`.
//!
//! A *tile* is some output rows of one image, or several whole images where these are small: few enough columns that
//! they stay in the second-level cache until the product has read them, and enough that the product pays for packing
//! the weight. A 1×1 kernel needs no unfolding: the image is its own columns. Threads take tiles; for the gradients they
//! take images or input channels instead, whichever do not write to the same place. How work is cut depends on shapes
//! alone, so that sums do not depend on the number of threads.

#![allow(unsafe_code)] // Tiles of an output interleave in memory, and the matrix product takes pointers.

use core::mem::MaybeUninit;
use core::ops::Range;

use burn::tensor::ops::ConvOptions;
use gemm::Parallelism;
use rayon::prelude::*;

use super::simd::{sum, uninit, vectorized, written};

/// Values of a tile's columns: 256 KiB.
const TILE: usize = 1 << 16;
/// Columns that a tile has at least, if there are as many, and at most.
const COLUMNS: (usize, usize) = (128, 1024);
/// Into how many pieces a gradient's work is cut.
const PIECES: usize = 16;
/// Up to this size each piece adds up a weight gradient of its own.
const SMALL_WEIGHT: usize = 1 << 16;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    batch: usize,
    channels_in: usize,
    channels_out: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Before the first row and column.
    padding: [usize; 2],
    dilation: [usize; 2],
    out: [usize; 2],
}

/// Rows of output pixels of some images; of all rows, if there are several images.
#[derive(Clone, Debug)]
struct Tile {
    images: Range<usize>,
    rows: Range<usize>,
}

impl Geometry {
    /// For images `[batch, channels_in, height, width]` and a weight `[channels_out, channels_in, ...]`.
    pub(super) fn of(x: &[usize], weight: &[usize], options: &ConvOptions<2>) -> Self {
        let size = [x[2], x[3]];
        let kernel = [weight[2], weight[3]];
        let out = [0, 1].map(|axis| {
            let (begin, end) = options.padding[axis];
            let reach = options.dilation[axis] * (kernel[axis] - 1) + 1;
            (size[axis] + begin + end - reach) / options.stride[axis] + 1
        });
        Self {
            batch: x[0],
            channels_in: x[1],
            channels_out: weight[0],
            size,
            kernel,
            stride: options.stride,
            padding: options.padding_begin(),
            dilation: options.dilation,
            out,
        }
    }

    pub(super) fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.channels_out, self.out[0], self.out[1]]
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn depth(&self) -> usize {
        self.channels_in * self.taps()
    }

    fn area(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn pixels(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Whether an image is its own columns.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1, 1] && self.size == self.out && self.padding == [0, 0]
    }

    fn columns(&self, tile: &Tile) -> usize {
        tile.images.len() * tile.rows.len() * self.out[1]
    }

    /// The tiles of some images, for columns of `depth` values.
    fn tiles(&self, images: Range<usize>, depth: usize) -> Vec<Tile> {
        let [height, width] = self.out;
        let columns = (TILE / depth).clamp(COLUMNS.0, COLUMNS.1);
        let several = columns / self.pixels();
        if several > 1 {
            let starts = images.clone().step_by(several);
            let tile = |start: usize| Tile {
                images: start..(start + several).min(images.end),
                rows: 0..height,
            };
            return starts.map(tile).collect();
        }
        let pieces = height.div_ceil((columns / width).max(1));
        let rows = height.div_ceil(pieces);
        let tile = |image: usize, start: usize| Tile {
            images: image..image + 1,
            rows: start..(start + rows).min(height),
        };
        images
            .flat_map(|image| (0..height).step_by(rows).map(move |row| tile(image, row)))
            .collect()
    }

    /// The output columns that see the image through the kernel's column `tap`, and where the first of them looks.
    fn seen(&self, tap: usize) -> (Range<usize>, usize) {
        let (offset, padding, stride) = (tap * self.dilation[1], self.padding[1], self.stride[1]);
        let first = padding.saturating_sub(offset).div_ceil(stride);
        let end = match (self.size[1] + padding).checked_sub(offset + 1) {
            Some(last) => (last / stride + 1).min(self.out[1]),
            None => 0,
        };
        let first = first.min(end);
        (
            first..end,
            (first * stride + offset).saturating_sub(padding),
        )
    }

    /// The image's row that output row `row` sees through the kernel's row `tap`.
    fn row(&self, row: usize, tap: usize) -> Option<usize> {
        let row = (row * self.stride[0] + tap * self.dilation[0]).checked_sub(self.padding[0])?;
        (row < self.size[0]).then_some(row)
    }

    /// Where in a plane the kernel's value at `tap` begins to look for a tile, if every row of the output is as wide as one
    /// of the image and the next pixel looks at the next value: then a plane's columns are the plane itself, shifted.
    fn shift(&self, tile: &Tile, (ky, kx): (usize, usize)) -> Option<isize> {
        let along = |axis: usize, at: usize| {
            (at * self.dilation[axis]) as isize - self.padding[axis] as isize
        };
        let row = tile.rows.start as isize + along(0, ky);
        let plain = self.stride == [1, 1] && self.out[1] == self.size[1];
        plain.then(|| row * self.size[1] as isize + along(1, kx))
    }

    /// The columns of a tile for some channels: `[channels · taps, columns]`.
    fn unfold(&self, x: &[f32], tile: &Tile, channels: Range<usize>, columns: &mut [f32]) {
        let (width, stride) = (self.out[1], self.stride[1]);
        let mut parts = columns.chunks_exact_mut(width * tile.rows.len());
        for channel in channels {
            for (ky, kx) in taps(self.kernel) {
                let (seen, from) = self.seen(kx);
                for image in tile.images.clone() {
                    let part = parts.next().expect("as many as the tile has");
                    let plane =
                        &x[(image * self.channels_in + channel) * self.area()..][..self.area()];
                    if let Some(shift) = self.shift(tile, (ky, kx)) {
                        let (there, at) = overlap(shift, part.len(), plane.len());
                        part[..there.start].fill(0.0);
                        part[there.end..].fill(0.0);
                        part[there.clone()].copy_from_slice(&plane[at..at + there.len()]);
                        clear_unseen(part, width, &seen);
                        continue;
                    }
                    for (line, row) in part.chunks_exact_mut(width).zip(tile.rows.clone()) {
                        let Some(row) = self.row(row, ky) else {
                            line.fill(0.0);
                            continue;
                        };
                        let source = &plane[row * self.size[1]..][..self.size[1]];
                        line[..seen.start].fill(0.0);
                        line[seen.end..].fill(0.0);
                        let line = &mut line[seen.clone()];
                        if !line.is_empty() {
                            let source = source[from..].iter().step_by(stride);
                            for (to, &from) in line.iter_mut().zip(source) {
                                *to = from;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Adds a tile's columns of some channels to the images that they came from, one of `planes` for each; the columns are
    /// spoilt.
    #[inline(always)]
    fn fold(&self, columns: &mut [f32], tile: &Tile, channels: Range<usize>, planes: &[Shared]) {
        let (width, stride) = (self.out[1], self.stride[1]);
        let mut parts = columns.chunks_exact_mut(width * tile.rows.len());
        for channel in channels {
            for (ky, kx) in taps(self.kernel) {
                let (seen, from) = self.seen(kx);
                for image in planes {
                    let part = parts.next().expect("as many as the tile has");
                    // SAFETY: a task alone has the channels of its images.
                    let plane = unsafe { image.slice(channel * self.area(), self.area()) };
                    if let Some(shift) = self.shift(tile, (ky, kx)) {
                        clear_unseen(part, width, &seen);
                        let (there, at) = overlap(shift, part.len(), plane.len());
                        for (to, &v) in plane[at..].iter_mut().zip(&part[there]) {
                            *to += v;
                        }
                        continue;
                    }
                    for (line, row) in part.chunks_exact(width).zip(tile.rows.clone()) {
                        let line = &line[seen.clone()];
                        let Some(row) = self.row(row, ky).filter(|_| !line.is_empty()) else {
                            continue;
                        };
                        let to = &mut plane[row * self.size[1]..][..self.size[1]];
                        for (to, &v) in to[from..].iter_mut().step_by(stride).zip(line) {
                            *to += v;
                        }
                    }
                }
            }
        }
    }

    /// The gradient at a tile's pixels as `[channels_out, columns]`; copied only if there are several images.
    fn gradient<'a>(&self, grad: &'a [f32], tile: &Tile, copy: &'a mut Vec<f32>) -> Matrix<'a> {
        let pixels = self.pixels();
        let image =
            |i: usize| &grad[i * self.channels_out * pixels..][..self.channels_out * pixels];
        let start = tile.rows.start * self.out[1];
        if tile.images.len() == 1 {
            return Matrix::new(&image(tile.images.start)[start..], pixels, 1);
        }
        let columns = self.columns(tile);
        let copy = room(copy, self.channels_out * columns);
        for (channel, row) in copy.chunks_exact_mut(columns).enumerate() {
            for (i, part) in tile.images.clone().zip(row.chunks_exact_mut(pixels)) {
                part.copy_from_slice(&image(i)[channel * pixels..][..pixels]);
            }
        }
        Matrix::new(copy, columns, 1)
    }

    /// The columns of a tile for some channels: the image itself, or unfolded.
    fn input<'a>(
        &self,
        x: &'a [f32],
        tile: &Tile,
        channels: Range<usize>,
        unfolded: &'a mut Vec<f32>,
    ) -> Matrix<'a> {
        if self.is_pointwise() && tile.images.len() == 1 {
            let image = tile.images.start * self.channels_in + channels.start;
            let start = image * self.area() + tile.rows.start * self.out[1];
            return Matrix::new(&x[start..], self.area(), 1);
        }
        let columns = self.columns(tile);
        let unfolded = room(unfolded, channels.len() * self.taps() * columns);
        self.unfold(x, tile, channels, unfolded);
        Matrix::new(unfolded, columns, 1)
    }
}

/// The part of `0..len` that lies in a plane when shifted, and where it begins there.
fn overlap(shift: isize, len: usize, plane: usize) -> (Range<usize>, usize) {
    let start = ((-shift).max(0) as usize).min(len);
    let end = ((plane as isize - shift).max(0) as usize).clamp(start, len);
    (
        start..end,
        ((start as isize + shift).max(0) as usize).min(plane),
    )
}

/// Zero wherever a line would look at its neighbours.
#[inline(always)]
fn clear_unseen(part: &mut [f32], width: usize, seen: &Range<usize>) {
    if *seen == (0..width) {
        return;
    }
    for line in part.chunks_exact_mut(width) {
        line[..seen.start].fill(0.0);
        line[seen.end..].fill(0.0);
    }
}

/// Row and column of each value of a kernel, in memory's order.
fn taps([height, width]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

/// The first `len` values of a buffer that grows as needed. They are whatever was there.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// What a thread keeps between tiles.
#[derive(Default)]
struct Scratch {
    columns: Vec<f32>,
    product: Vec<f32>,
}

/// An output that several tasks write to, each in places of its own.
#[derive(Clone, Copy)]
struct Shared {
    start: *mut f32,
    len: usize,
}

// SAFETY: the places are disjoint, as every use says.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn of(values: &mut [f32]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
        }
    }

    fn of_uninit(values: &mut [MaybeUninit<f32>]) -> Self {
        Self {
            start: values.as_mut_ptr().cast(),
            len: values.len(),
        }
    }

    /// From `at` on.
    fn part(&self, at: usize, len: usize) -> Self {
        assert!(at + len <= self.len);
        Self {
            start: self.start.wrapping_add(at),
            len,
        }
    }

    /// # Safety
    ///
    /// Nothing else reads or writes these values while the slice lives, and they have been written.
    #[allow(clippy::mut_from_ref)]
    unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        let part = self.part(at, len);
        // SAFETY: in bounds by `part`; the rest is the caller's.
        unsafe { core::slice::from_raw_parts_mut(part.start, part.len) }
    }

    /// Writes values that may not have been written before.
    ///
    /// # Safety
    ///
    /// Nothing else reads or writes these places meanwhile.
    unsafe fn write(&self, at: usize, values: impl ExactSizeIterator<Item = f32>) {
        let part = self.part(at, values.len());
        for (i, value) in values.enumerate().take(part.len) {
            // SAFETY: in bounds by `part` and `take`; the rest is the caller's.
            unsafe { part.start.add(i).write(value) }
        }
    }
}

/// A matrix somewhere in a slice.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    fn new(values: &'a [f32], row_stride: usize, column_stride: usize) -> Self {
        Self {
            values,
            row_stride,
            column_stride,
        }
    }

    fn transposed(self) -> Self {
        Self::new(self.values, self.column_stride, self.row_stride)
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
    }
}

/// `to = a · b`, or `to += a · b`, for `a` of `[m, k]`, `b` of `[k, n]` and rows of `to` that are `row_stride` apart.
///
/// # Safety
///
/// Nothing else reads or writes these rows of `to` meanwhile; with `add`, they have been written.
unsafe fn product(
    [m, k, n]: [usize; 3],
    to: Shared,
    row_stride: usize,
    add: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    assert!(m > 0 && k > 0 && n > 0 && a.holds(m, k) && b.holds(k, n));
    assert!((m - 1) * row_stride + n <= to.len);
    // SAFETY: all that is read or written lies in the slices, by the assertions; the rest is the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to.start,
            1,
            row_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The product's own threads are of use only where there are not enough tasks.
fn parallelism(tasks: usize) -> Parallelism {
    match tasks < rayon::current_num_threads() {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    }
}

/// The output, `[batch, channels_out, ...]`.
pub(super) fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, g: Geometry) -> Vec<f32> {
    let (pixels, depth) = (g.pixels(), g.depth());
    let mut y = uninit(g.batch * g.channels_out * pixels);
    let out = Shared::of_uninit(&mut y);
    let tiles = g.tiles(0..g.batch, depth);
    let parallelism = parallelism(tiles.len());
    let weight = Matrix::new(weight, depth, 1);
    let run = |scratch: &mut Scratch, tile: Tile| {
        let columns = g.columns(&tile);
        let size = [g.channels_out, depth, columns];
        let first = tile.rows.start * g.out[1];
        let input = g.input(x, &tile, 0..g.channels_in, &mut scratch.columns);
        let place = |image: usize, channel: usize| (image * g.channels_out + channel) * pixels;
        if tile.images.len() == 1 {
            let at = place(tile.images.start, 0);
            let to = out.part(at + first, g.channels_out * pixels - first);
            for (channel, &bias) in bias.into_iter().flatten().enumerate() {
                // SAFETY: a tile alone writes its pixels, here and in the product.
                unsafe { to.write(channel * pixels, (0..columns).map(|_| bias)) };
            }
            // SAFETY: as above; with a bias they have been written.
            unsafe { product(size, to, pixels, bias.is_some(), weight, input, parallelism) };
            return;
        }
        let result = room(&mut scratch.product, g.channels_out * columns);
        // SAFETY: this task alone has the buffer.
        unsafe {
            product(
                size,
                Shared::of(result),
                columns,
                false,
                weight,
                input,
                parallelism,
            )
        };
        for (channel, row) in result.chunks_exact(columns).enumerate() {
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            for (image, row) in tile.images.clone().zip(row.chunks_exact(pixels)) {
                // SAFETY: a tile alone writes its pixels.
                unsafe { out.write(place(image, channel), row.iter().map(|v| v + bias)) };
            }
        }
    };
    tiles
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, tile| run(scratch, tile));
    written(y)
}

/// The gradient of the images.
pub(super) fn x_backward(grad: &[f32], weight: &[f32], g: Geometry) -> Vec<f32> {
    let (taps, depth, image) = (g.taps(), g.depth(), g.channels_in * g.area());
    let mut dx = vec![0.0; g.batch * image];
    let out = Shared::of(&mut dx);
    // Images together that share a tile, so that no two tasks add to the same place.
    let together = (COLUMNS.0 / g.pixels()).clamp(1, g.batch);
    let groups = g.batch.div_ceil(together);
    let channels = g.channels_in.div_ceil(PIECES.div_ceil(groups));
    let tasks: Vec<(usize, usize)> = (0..groups)
        .flat_map(|group| {
            (0..g.channels_in)
                .step_by(channels)
                .map(move |c| (group, c))
        })
        .collect();
    let parallelism = parallelism(tasks.len());
    let run = |scratch: &mut Scratch, (group, start): (usize, usize)| {
        let images = group * together..((group + 1) * together).min(g.batch);
        let channels = start..(start + channels).min(g.channels_in);
        let rows = channels.len() * taps;
        let weight = Matrix::new(&weight[start * taps..], depth, 1).transposed();
        let tiles = match images.len() {
            1 => g.tiles(images.clone(), rows),
            _ => vec![Tile {
                images,
                rows: 0..g.out[0],
            }],
        };
        for tile in tiles {
            let columns = g.columns(&tile);
            let size = [rows, g.channels_out, columns];
            let gradient = g.gradient(grad, &tile, &mut scratch.product);
            if g.is_pointwise() && tile.images.len() == 1 {
                let first = tile.rows.start * g.out[1];
                let at = tile.images.start * image + start * g.area() + first;
                let to = out.part(at, channels.len() * g.area() - first);
                // SAFETY: a task alone has the channels of its images.
                unsafe { product(size, to, g.area(), false, weight, gradient, parallelism) };
                continue;
            }
            let folded = room(&mut scratch.columns, rows * columns);
            let to = Shared::of(folded);
            // SAFETY: this task alone has the buffer.
            unsafe { product(size, to, columns, false, weight, gradient, parallelism) };
            let planes: Vec<Shared> = tile
                .images
                .clone()
                .map(|i| out.part(i * image, image))
                .collect();
            vectorized!(|| g.fold(folded, &tile, channels.clone(), &planes));
        }
    };
    tasks
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, task| run(scratch, task));
    dx
}

/// The gradient of the weight, `[channels_out, depth]`.
pub(super) fn weight_backward(grad: &[f32], x: &[f32], g: Geometry) -> Vec<f32> {
    let (taps, depth, out) = (g.taps(), g.depth(), g.channels_out);
    // Over some images and some channels: `[channels_out, channels · taps]`.
    let part = |images: Range<usize>, channels: Range<usize>, parallelism: Parallelism| {
        let mut scratch = Scratch::default();
        let rows = channels.len() * taps;
        let mut sum = vec![0.0; out * rows];
        let to = Shared::of(&mut sum);
        for tile in g.tiles(images, rows) {
            let size = [out, g.columns(&tile), rows];
            let gradient = g.gradient(grad, &tile, &mut scratch.product);
            let input = g.input(x, &tile, channels.clone(), &mut scratch.columns);
            // SAFETY: this task alone has the sum.
            unsafe {
                product(
                    size,
                    to,
                    rows,
                    true,
                    gradient,
                    input.transposed(),
                    parallelism,
                )
            };
        }
        sum
    };
    let cut = |len: usize| {
        let each = len.div_ceil(PIECES);
        let starts = (0..len).step_by(each);
        let pieces = starts.map(move |start| start..(start + each).min(len));
        pieces.collect::<Vec<_>>()
    };
    if out * depth <= SMALL_WEIGHT || g.channels_in < PIECES {
        let pieces = cut(g.batch);
        let parallelism = parallelism(pieces.len());
        let sums: Vec<Vec<f32>> = pieces
            .into_par_iter()
            .map(|images| part(images, 0..g.channels_in, parallelism))
            .collect();
        let mut sums = sums.into_iter();
        let mut total = sums.next().expect("at least one image");
        for sum in sums {
            total.iter_mut().zip(sum).for_each(|(total, v)| *total += v);
        }
        return total;
    }
    let pieces = cut(g.channels_in);
    let parallelism = parallelism(pieces.len());
    let parts: Vec<(Range<usize>, Vec<f32>)> = pieces
        .into_par_iter()
        .map(|channels| (channels.clone(), part(0..g.batch, channels, parallelism)))
        .collect();
    let mut weight = vec![0.0; out * depth];
    for (channels, part) in parts {
        let rows = channels.len() * taps;
        let places = weight.chunks_exact_mut(depth);
        for (to, from) in places.zip(part.chunks_exact(rows)) {
            to[channels.start * taps..][..rows].copy_from_slice(from);
        }
    }
    weight
}

/// The gradient of the bias: for each channel, the sum over images and pixels.
pub(super) fn bias_backward(grad: &[f32], batch: usize, channels: usize) -> Vec<f32> {
    let pixels = grad.len() / (batch * channels);
    let channel = |channel: usize| {
        vectorized!(|| {
            let mut total = 0.0;
            for image in 0..batch {
                total += sum(&grad[(image * channels + channel) * pixels..][..pixels]);
            }
            total as f32
        })
    };
    (0..channels).into_par_iter().map(channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        let number = |i: usize| ((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0;
        (0..len).map(number).collect()
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        // Many tasks and fewer than threads; a weight cut by images and by channels.
        for (x, weight) in [
            ([9, 3, 20, 20], [8, 3, 3, 3]),
            ([1, 2, 6, 6], [5, 2, 3, 3]),
            ([2, 64, 9, 9], [130, 64, 3, 3]),
        ] {
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let g = Geometry::of(&x, &weight, &options);
            let [x, w] = [x, weight].map(|shape| numbers(shape.iter().product(), shape[0]));
            let grad = numbers(g.output_shape().iter().product(), 3);
            let run = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.unwrap().install(|| {
                    [
                        forward(&x, &w, None, g),
                        x_backward(&grad, &w, g),
                        weight_backward(&grad, &x, g),
                        bias_backward(&grad, g.batch, g.channels_out),
                    ]
                })
            };
            let one = run(1);
            assert!(one.iter().flatten().any(|&value| value != 0.0));
            for threads in [2, 5, 32] {
                assert!(one == run(threads), "{threads} threads, {g:?}");
            }
        }
    }
}
