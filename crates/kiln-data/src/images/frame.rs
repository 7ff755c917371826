//! Cropping, scaling and centring, as the makers of MNIST did it.

use super::SIDE;
use super::decode::Gray;

/// The box that the ink is fitted into.
const BOX: usize = 20;
/// Larger pictures are scaled down to this first; strokes need no more.
const WORK: usize = 512;
/// Differences from the paper below this (of 255) are not ink.
const FAINT: f32 = 24.0;

/// The ink of a light-on-dark picture, whose paper is `paper`, normalised as MNIST; `None` if there
/// is none.
pub(super) fn ink(gray: &Gray, paper: f32) -> Option<Vec<u8>> {
    if let Some(ready) = already_normalised(gray, paper) {
        return Some(ready);
    }
    let longer = gray.width.max(gray.height);
    let mut ink = match longer > WORK {
        true => scale(
            gray,
            shrunk(gray.width, longer),
            shrunk(gray.height, longer),
        ),
        false => scale(gray, gray.width, gray.height),
    };
    if !shows_ink(&ink, paper) {
        return None;
    }
    let peak = brightest(&ink) - paper;
    // Photographed paper is never quite even nor ink quite black, so the outer parts of the range
    // are cut; a clean drawing only loses what a lossy format may have left around the lines.
    let clean = paper < 16.0 && peak > 200.0;
    let (low, span) = if clean { (0.04, 0.92) } else { (0.15, 0.65) };
    for pixel in &mut ink.pixels {
        *pixel = (((*pixel - paper) / peak - low) / span).clamp(0.0, 1.0) * 255.0;
    }
    drop_specks(&mut ink);
    let ink = crop(&ink)?;
    let longer = ink.width.max(ink.height);
    let side = |n: usize| ((n * BOX + longer / 2) / longer).max(1);
    let small = scale(&ink, side(ink.width), side(ink.height));
    Some(place_by_mass(&small))
}

/// Whether anything on a light-on-dark picture differs enough from its paper to be ink.
pub(super) fn shows_ink(gray: &Gray, paper: f32) -> bool {
    brightest(gray) - paper >= FAINT
}

fn brightest(gray: &Gray) -> f32 {
    gray.pixels.iter().fold(f32::MIN, |a, &b| a.max(b))
}

/// The whole picture in the middle of the square, scaled to touch its sides.
pub(super) fn whole(gray: &Gray) -> Vec<u8> {
    let longer = gray.width.max(gray.height);
    let side = |n: usize| ((n * SIDE + longer / 2) / longer).max(1);
    let small = scale(gray, side(gray.width), side(gray.height));
    place(&small, (SIDE - small.width) / 2, (SIDE - small.height) / 2)
}

fn shrunk(n: usize, longer: usize) -> usize {
    (n * WORK / longer).max(1)
}

/// The pixels as they are, if they are as MNIST's: 28×28 on black, about 20 pixels of ink on the
/// longer side, mass in the middle. Another round of scaling would only blur them.
fn already_normalised(gray: &Gray, paper: f32) -> Option<Vec<u8>> {
    if (gray.width, gray.height) != (SIDE, SIDE) || paper > 0.5 {
        return None;
    }
    let ink = crop(gray)?;
    let (cx, cy) = center_of_mass(gray);
    let middle = (SIDE / 2) as f32;
    let centred = (cx - middle).abs() < 2.0 && (cy - middle).abs() < 2.0;
    let fits = (BOX - 2..=BOX + 2).contains(&ink.width.max(ink.height));
    (centred && fits).then(|| gray.pixels.iter().map(|&p| (p + 0.5) as u8).collect())
}

/// Blanks every connected patch of ink that has less than 3 % of the largest one's ink.
fn drop_specks(ink: &mut Gray) {
    let (w, h) = (ink.width, ink.height);
    let mut patch = vec![0u32; w * h];
    let mut masses = vec![0.0f32];
    let mut stack = Vec::new();
    for start in 0..w * h {
        if patch[start] != 0 || ink.pixels[start] == 0.0 {
            continue;
        }
        let name = masses.len() as u32;
        let mut mass = 0.0;
        patch[start] = name;
        stack.push(start);
        while let Some(i) = stack.pop() {
            mass += ink.pixels[i];
            let (x, y) = (i % w, i / w);
            for ny in y.saturating_sub(1)..=(y + 1).min(h - 1) {
                for nx in x.saturating_sub(1)..=(x + 1).min(w - 1) {
                    let n = ny * w + nx;
                    if patch[n] == 0 && ink.pixels[n] > 0.0 {
                        patch[n] = name;
                        stack.push(n);
                    }
                }
            }
        }
        masses.push(mass);
    }
    let least = 0.03 * masses.iter().fold(0.0f32, |a, &b| a.max(b));
    for (pixel, &patch) in ink.pixels.iter_mut().zip(&patch) {
        if masses[patch as usize] < least {
            *pixel = 0.0;
        }
    }
}

/// The smallest part that has all pixels above zero.
fn crop(gray: &Gray) -> Option<Gray> {
    let (w, h) = (gray.width, gray.height);
    let lit = |i: usize| gray.pixels[i] > 0.5;
    let rows: Vec<usize> = (0..h).filter(|y| (0..w).any(|x| lit(y * w + x))).collect();
    let columns: Vec<usize> = (0..w).filter(|x| (0..h).any(|y| lit(y * w + x))).collect();
    let (&top, &bottom) = (rows.first()?, rows.last()?);
    let (&left, &right) = (columns.first()?, columns.last()?);
    let pixels = (top..=bottom)
        .flat_map(|y| &gray.pixels[y * w + left..=y * w + right])
        .copied()
        .collect();
    Some(Gray {
        width: right - left + 1,
        height: bottom - top + 1,
        pixels,
    })
}

/// Resamples: an average over the area of each new pixel when it shrinks, linear interpolation when
/// it grows.
pub(super) fn scale(gray: &Gray, width: usize, height: usize) -> Gray {
    let (columns, rows) = (taps(gray.width, width), taps(gray.height, height));
    // Rows first, then columns: two passes over one dimension each.
    let mut tall = vec![0.0; width * gray.height];
    for y in 0..gray.height {
        let line = &gray.pixels[y * gray.width..][..gray.width];
        for (x, (first, weights)) in columns.iter().enumerate() {
            let sum = weights.iter().zip(&line[*first..]).map(|(w, p)| w * p);
            tall[y * width + x] = sum.sum();
        }
    }
    let mut pixels = vec![0.0; width * height];
    for (y, (first, weights)) in rows.iter().enumerate() {
        for (i, weight) in weights.iter().enumerate() {
            let line = &tall[(first + i) * width..][..width];
            for (out, value) in pixels[y * width..][..width].iter_mut().zip(line) {
                *out += weight * value;
            }
        }
    }
    Gray {
        width,
        height,
        pixels,
    }
}

/// For each of `to` pixels: the first of the `from` pixels it is made of, and their weights.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let ratio = from as f32 / to as f32;
    (0..to)
        .map(|i| {
            let (low, high) = (i as f32 * ratio, (i + 1) as f32 * ratio);
            let middle = 0.5 * (low + high) - 0.5;
            let reach = (0.5 * ratio + 0.5).max(1.0);
            let first = (middle - reach).ceil().max(0.0) as usize;
            let last = ((middle + reach).floor() as usize).min(from - 1);
            let mut weights: Vec<f32> = (first..=last)
                .map(|j| match ratio > 1.0 {
                    true => high.min((j + 1) as f32) - low.max(j as f32),
                    false => 1.0 - (j as f32 - middle).abs(),
                })
                .map(|weight| weight.max(0.0))
                .collect();
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            (first, weights)
        })
        .collect()
}

fn center_of_mass(gray: &Gray) -> (f32, f32) {
    let (mut mass, mut mx, mut my) = (0.0f64, 0.0f64, 0.0f64);
    for (i, &v) in gray.pixels.iter().enumerate() {
        mass += f64::from(v);
        mx += f64::from(v) * (i % gray.width) as f64;
        my += f64::from(v) * (i / gray.width) as f64;
    }
    ((mx / mass) as f32, (my / mass) as f32)
}

fn place_by_mass(gray: &Gray) -> Vec<u8> {
    let (cx, cy) = center_of_mass(gray);
    // In MNIST the mean of the pixel indices is 14, not 13.5.
    let middle = (SIDE / 2) as f32;
    let offset = |center: f32, side: usize| {
        (middle - center + 0.5)
            .floor()
            .clamp(0.0, (SIDE - side) as f32) as usize
    };
    place(gray, offset(cx, gray.width), offset(cy, gray.height))
}

fn place(gray: &Gray, left: usize, top: usize) -> Vec<u8> {
    let mut out = vec![0; SIDE * SIDE];
    for (y, line) in gray.pixels.chunks_exact(gray.width).enumerate() {
        for (x, &value) in line.iter().enumerate() {
            out[(top + y) * SIDE + left + x] = (value + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
    out
}
