//! How people write each digit: strokes in the unit square, in several styles, with random
//! proportions.

use super::rng::Rng;
use super::sketch::{Sketch, sin_cos_turns};

/// The strokes of one digit.
pub(super) fn sketch(digit: u8, rng: &mut Rng) -> Sketch {
    let mut sketch = Sketch::default();
    let draw = match digit {
        0 => zero,
        1 => one,
        2 => two,
        3 => three,
        4 => four,
        5 => five,
        6 => six,
        7 => seven,
        8 => eight,
        _ => nine,
    };
    draw(&mut sketch, rng);
    sketch
}

/// An oval or a drop, seldom closed exactly: the ends meet, miss, cross or curl in.
fn zero(s: &mut Sketch, r: &mut Rng) {
    let rx = match r.pick(&[0.85, 0.15]) {
        0 => r.range(0.24, 0.6),
        _ => r.range(0.6, 0.85),
    };
    // Some lean by more than the slant of the hand.
    let lean = match r.chance(0.35) {
        true => r.range(-0.1, 0.35),
        false => 0.0,
    };
    if r.chance(0.4) {
        // A drop: down from the top, around, and up across the start; either way round.
        let rx = if r.chance(0.7) { rx } else { -rx };
        let tip = 0.06 * r.normal();
        s.start(0.5 + tip + r.range(-0.05, 0.2) * rx, r.range(-0.08, 0.04))
            .to(0.5 + 0.5 * tip - 0.55 * rx, r.range(0.16, 0.26))
            .to(0.5 - rx, 0.56)
            .to(0.5 - 0.68 * rx, 0.88)
            .to(0.5, 1.0)
            .to(0.5 + 0.72 * rx, 0.88)
            .to(0.5 + rx, 0.56)
            .to(0.5 + 0.6 * rx, r.range(0.14, 0.26))
            .to(0.5 + tip + r.range(-0.5, 0.1) * rx, r.range(-0.06, 0.12));
    } else {
        let from = r.range(-0.42, -0.08);
        let turns = 1.0 + 0.05 * r.normal();
        let direction = if r.chance(0.85) { -1.0 } else { 1.0 };
        let spiral = 0.12 * r.normal();
        let to = from + direction * turns;
        s.lift().arc((0.5, 0.5), (rx, 0.5), (from, to), spiral);
        if r.chance(0.25) {
            // The pen runs on past the start, inside or outside the oval.
            let reach = r.range(0.6, 1.2);
            let further = to + direction * r.range(0.04, 0.12);
            let (sin, cos) = sin_cos_turns(further);
            s.to(0.5 + rx * reach * cos, 0.5 + 0.5 * reach * sin);
        }
    }
    s.slant(lean);
}

/// A bar; now and then with a flag at the top, a foot at the bottom.
fn one(s: &mut Sketch, r: &mut Rng) {
    let style = r.pick(&[0.84, 0.09, 0.07]);
    let bow = 0.03 * r.normal();
    if style == 0 {
        s.start(0.5, 0.0).to(0.5 + bow, 0.5).to(0.5, 1.0);
        return;
    }
    let flag = r.range(0.1, 0.27);
    let drop = r.range(0.08, 0.28);
    s.start(0.52 - flag, drop)
        .to(0.52 - 0.45 * flag, 0.6 * drop)
        .corner(0.52, 0.0)
        .to(0.52 + bow, 0.5)
        .to(0.52, 1.0);
    if style == 2 {
        let (left, right) = (r.range(0.14, 0.34), r.range(0.14, 0.34));
        let y = 1.0 + 0.02 * r.normal();
        s.start(0.52 - left, y)
            .to(0.52 + right, y + 0.02 * r.normal());
    }
}

/// A hook over the top and a sweep to the lower left; then a base line, a wave or a loop.
fn two(s: &mut Sketch, r: &mut Rng) {
    let hook = r.range(0.06, 0.46);
    let left = r.range(0.04, 0.24);
    let right = r.range(0.62, 0.92);
    let bulge = r.range(0.2, 0.36);
    if hook > 0.26 && r.chance(0.5) {
        // The hook curls in.
        s.start(left + r.range(0.1, 0.24), hook + 0.02)
            .to(left + 0.04, hook);
    } else {
        s.start(left, hook);
    }
    if hook > 0.12 {
        s.to(left + 0.1, 0.45 * hook);
    }
    s.to(r.range(0.4, 0.55), 0.0)
        .to(right - 0.06, 0.1)
        .to(right, bulge)
        .to(right - 0.16, bulge + 0.22);
    let foot = r.range(0.0, 0.2);
    let end = match r.chance(0.2) {
        true => r.range(1.05, 1.4),
        false => r.range(0.7, 1.08),
    };
    match r.pick(&[0.4, 0.44, 0.16]) {
        0 => {
            // A sharp corner and a base line, straight or wavy.
            let y = r.range(0.92, 1.0);
            let wave = 0.05 * r.normal();
            s.to(0.35, 0.8)
                .corner(foot, y)
                .to(0.35, y + wave - 0.02)
                .to(0.65, y - wave)
                .to(end, y + 0.05 * r.normal());
        }
        1 => {
            // A loop: under, back over the left, and out across the stroke.
            let size = r.range(0.09, 0.26);
            let wide = r.range(0.22, 0.58);
            let foot = foot - 0.05;
            let y = r.range(0.98, 1.02) - size;
            s.to(0.42, y - 0.1)
                .to(foot + 0.58 * wide, y + size)
                .to(foot, y + 0.4 * size)
                .to(foot + 0.3 * wide, y - 0.75 * size)
                .to(foot + wide, y - 0.4 * size)
                .to(0.68, y + r.range(0.1, 0.8) * size)
                .to(end, y + r.range(-0.6, 1.2) * size);
        }
        _ => {
            // The corner is rounded.
            let y = r.range(0.9, 0.98);
            s.to(0.36, 0.78)
                .to(foot + 0.12, y - 0.03)
                .to(foot + 0.22, y + 0.01)
                .to(0.6, y)
                .to(end, y - r.range(-0.05, 0.08));
        }
    }
}

/// Two bowls open to the left; between them a point, a bend or a small loop.
fn three(s: &mut Sketch, r: &mut Rng) {
    let waist = r.range(0.34, 0.56);
    let inner = r.range(0.22, 0.6);
    let upper = r.range(0.64, 0.9);
    let lower = r.range(0.68, 0.98);
    if r.chance(0.1) {
        // A flat top and a straight slope.
        s.start(r.range(0.05, 0.2), r.range(0.0, 0.07))
            .corner(upper, r.range(0.0, 0.05))
            .corner(inner, waist - 0.04);
    } else {
        let tip = r.range(0.04, 0.28);
        s.start(r.range(0.08, 0.28), tip)
            .to(r.range(0.3, 0.45), 0.02)
            .to(0.6, 0.01)
            .to(upper, 0.12)
            .to(upper - 0.03, 0.28);
        match r.pick(&[0.6, 0.22, 0.18]) {
            0 => {
                s.to(0.5 * (upper + inner) + 0.03, waist - 0.05)
                    .corner(inner, waist);
            }
            1 => {
                let size = r.range(0.03, 0.07);
                s.to(inner + 0.08, waist - 0.5 * size)
                    .to(inner - 0.05, waist + 0.3 * size)
                    .to(inner - 0.02, waist + size)
                    .to(inner + 0.08, waist + 0.2 * size);
            }
            _ => {
                s.to(inner + 0.12, waist - 0.04)
                    .to(inner + 0.02, waist + 0.01)
                    .to(inner + 0.14, waist + 0.04);
            }
        }
    }
    s.to(lower - 0.1, waist + 0.1)
        .to(lower, 0.5 * (waist + 1.0));
    if r.chance(0.25) {
        // The lower bowl runs out straight to the lower left.
        s.to(0.6 * lower, 0.9)
            .to(r.range(-0.1, 0.25), r.range(0.94, 1.02));
        return;
    }
    let tail = r.range(0.72, 0.98);
    s.to(lower - 0.14, 0.93)
        .to(r.range(0.36, 0.5), 1.0)
        .to(r.range(0.16, 0.26), 0.5 * (1.0 + tail) + 0.02)
        .to(r.range(0.0, 0.18), tail);
}

/// Open or closed at the top; the cross stroke pointed or rounded.
fn four(s: &mut Sketch, r: &mut Rng) {
    let stem = r.range(0.55, 0.85);
    let lean = 0.07 * r.normal();
    match r.pick(&[0.48, 0.16, 0.16, 0.2]) {
        0 => {
            // Open, with a corner at the left.
            let y = r.range(0.36, 0.68);
            let left = r.range(0.0, 0.16);
            let top = r.range(0.0, 0.12);
            s.start(left + r.range(0.02, 0.26), top)
                .to(left + 0.08, 0.55 * y)
                .corner(left, y)
                .to(0.5, y + 0.03 * r.normal())
                .to(stem + r.range(0.0, 0.3), y + 0.05 * r.normal());
            s.start(stem + 0.5 * lean + r.range(0.0, 0.06), r.range(-0.05, 0.4))
                .to(stem, 0.6)
                .to(stem - lean, 1.0);
        }
        1 => {
            // Open, rounded, in one stroke: down, across, up and down the stem.
            let y = r.range(0.42, 0.58);
            s.start(r.range(0.1, 0.25), r.range(0.0, 0.1))
                .to(0.1, 0.7 * y)
                .to(0.24, y)
                .to(0.5, y - 0.02)
                .to(stem - 0.02, 0.6 * y)
                .corner(stem + r.range(0.0, 0.1), r.range(-0.02, 0.16))
                .to(stem, 0.55)
                .to(stem - lean, 1.0);
        }
        2 => {
            // Open, rounded, in two strokes.
            let y = r.range(0.42, 0.6);
            s.start(r.range(0.08, 0.28), r.range(0.0, 0.1))
                .to(0.1, 0.65 * y)
                .to(0.2, y - 0.03)
                .to(0.45, y + 0.01)
                .to(stem + r.range(-0.02, 0.22), y + r.range(-0.1, 0.0));
            s.start(stem + r.range(0.0, 0.1), r.range(-0.02, 0.25))
                .to(stem, 0.55)
                .to(stem - lean, 1.0);
        }
        _ => {
            // Closed: a slope from the top of the stem.
            let y = r.range(0.52, 0.7);
            s.start(stem, 0.0)
                .to(0.4, 0.5 * y)
                .corner(r.range(0.0, 0.12), y)
                .to(0.5, y + 0.02 * r.normal())
                .to(stem + r.range(0.02, 0.32), y + 0.04 * r.normal());
            s.start(stem + 0.02 * r.normal(), r.range(0.0, 0.05))
                .to(stem, 0.55)
                .to(stem - lean, 1.0);
        }
    }
}

/// A bar, a neck and a bowl; the bar is joined, apart or begins the stroke.
fn five(s: &mut Sketch, r: &mut Rng) {
    let neck = r.range(0.14, 0.42);
    let shoulder = r.range(0.3, 0.52);
    let belly = r.range(0.62, 0.95);
    let bar = neck + r.range(0.25, 0.85);
    let rise = (0.08 * r.normal() - 0.03).clamp(-0.25, 0.12);
    let joined = r.chance(0.45);
    let heel = neck - r.range(0.0, 0.12);
    if joined {
        s.start(bar, 0.02 + rise).corner(neck + 0.02, 0.03);
    } else {
        s.start(neck + 0.02, r.range(0.0, 0.08));
    }
    s.to(0.5 * (neck + heel), 0.5 * shoulder);
    if r.chance(0.65) {
        s.corner(heel, shoulder)
            .to(0.5, shoulder - r.range(0.0, 0.08));
    } else {
        s.to(heel + 0.04, shoulder - 0.02).to(0.5, shoulder + 0.04);
    }
    let tail = r.range(0.68, 1.0);
    s.to(belly - 0.06, shoulder + 0.13)
        .to(belly, 0.5 * (shoulder + 1.0) + 0.03)
        .to(belly - 0.15, 0.94)
        .to(r.range(0.3, 0.48), 1.0)
        .to(r.range(-0.04, 0.2), tail);
    if r.chance(0.25) {
        // The bowl curls back in.
        s.to(r.range(0.02, 0.2), tail - r.range(0.06, 0.16));
    }
    if !joined {
        let from = neck + r.range(-0.04, 0.1);
        let y = r.range(-0.04, 0.06);
        s.start(from, y)
            .to(0.5 * (from + bar), y + 0.5 * rise + 0.02 * r.normal())
            .to(bar, y + rise);
    }
}

/// A stem that curves into a loop at the bottom; the loop may be small, wide or nearly all of it.
fn six(s: &mut Sketch, r: &mut Rng) {
    let left = r.range(0.04, 0.2);
    let top = left + r.range(0.04, 0.72);
    let right = left + r.range(0.4, 0.82);
    let eye = r.range(0.4, 0.76);
    // Between a stem as round as a C (1) and one that goes straight down (0).
    let round = r.range(0.0, 1.0);
    let bend = left + (top - left) * (0.62 - 0.32 * round);
    s.start(top, 0.0)
        .to(bend, r.range(0.22, 0.3))
        .to(left + 0.05 * (1.0 - round) + 0.03, r.range(0.48, 0.58))
        .to(left, 0.74)
        .to(left + 0.1, 0.93)
        .to(0.5 * (left + right), 1.0)
        .to(right - 0.07, 0.92)
        .to(right, 0.5 * (1.0 + eye) + 0.02)
        .to(right - 0.1, eye + 0.05)
        .to(0.5 * (left + right) + 0.03, eye);
    match r.pick(&[0.38, 0.24, 0.2, 0.18]) {
        0 => s.to(left + 0.12, eye + 0.1).to(left + 0.03, eye + 0.2),
        1 => s.to(left + 0.12, eye + 0.08).to(left - 0.04, eye + 0.17),
        2 => s.to(left + 0.18, eye + 0.07),
        _ => {
            // The ring stays small, away from the stem.
            let inner = left + (right - left) * r.range(0.3, 0.6);
            s.to(inner, 0.6 * eye + 0.36)
                .to(inner + r.range(-0.02, 0.1), r.range(0.86, 1.0))
        }
    };
}

/// A bar and a slope; perhaps a serif or a wave at the left, perhaps a cross stroke.
fn seven(s: &mut Sketch, r: &mut Rng) {
    let left = r.range(0.0, 0.22);
    let right = r.range(0.7, 0.95);
    let y = r.range(0.02, 0.12);
    let end = r.range(0.18, 0.66);
    let rise = 0.06 * r.normal();
    match r.pick(&[0.28, 0.24, 0.48]) {
        0 => {
            s.start(left + 0.03 * r.normal(), y + r.range(0.08, 0.36))
                .corner(left + 0.03, y + 0.02)
                .to(0.45, y + 0.04 * r.normal());
        }
        1 => {
            // The pen comes down, rounds a trough and rises over a hump.
            let dip = r.range(0.06, 0.2);
            s.start(left, y + r.range(-0.06, 0.12))
                .to(left + 0.1, y + dip)
                .to(left + 0.26, y + 0.6 * dip)
                .to(0.55, y - 0.02);
        }
        _ => {
            s.start(left, y + r.range(-0.04, 0.12))
                .to(0.45, y + 0.04 * r.normal());
        }
    }
    match r.pick(&[0.55, 0.25, 0.2]) {
        0 => {
            s.corner(right, y + rise);
        }
        1 => {
            s.to(right - 0.08, y + rise).to(right, y + 0.08);
        }
        _ => {
            s.to(right - 0.14, y + 0.02)
                .to(right - 0.01, y + r.range(0.1, 0.16));
        }
    }
    let bow = r.range(-0.05, 0.18);
    s.to(0.6 * right + 0.4 * end - 0.5 * bow, 0.38)
        .to(0.3 * right + 0.7 * end - bow, 0.68)
        .to(end - 0.3 * bow, 1.0);
    if r.chance(0.2) {
        let (cx, cy) = (0.5 * (right + end) - 0.6 * bow, r.range(0.4, 0.62));
        let (l, k) = (r.range(0.12, 0.36), r.range(0.12, 0.36));
        let h = 0.05 * r.normal();
        s.start(cx - l, cy + h).to(cx + k, cy - h);
    }
}

/// One crossing stroke, or two rings on top of each other.
fn eight(s: &mut Sketch, r: &mut Rng) {
    let waist = r.range(0.36, 0.62);
    let up = r.range(0.12, 0.42);
    let down = r.range(0.1, 0.42).max(0.38 - up);
    let cx = 0.5 + 0.04 * r.normal();
    if r.chance(0.12) {
        let gap = 0.03 * r.normal();
        s.lift().arc(
            (cx + 0.03 * r.normal(), 0.5 * waist),
            (up, 0.5 * waist),
            (-0.25 + 0.1 * r.normal(), 0.75 + 0.1 * r.normal()),
            0.1 * r.normal(),
        );
        s.lift().arc(
            (cx, 0.5 * (1.0 + waist) + gap),
            (down, 0.5 * (1.0 - waist)),
            (-0.25 + 0.1 * r.normal(), 0.75 + 0.1 * r.normal()),
            0.1 * r.normal(),
        );
        return;
    }
    // The stroke begins at the upper right, sometimes well outside the ring it will close.
    let start = r.range(0.0, 0.2);
    let out = up * r.range(0.3, 1.2)
        + if r.chance(0.18) {
            r.range(0.0, 0.2)
        } else {
            0.0
        };
    // The end may miss the start.
    let end = if r.chance(0.2) {
        (up * r.range(0.9, 1.5), waist * r.range(0.1, 0.5))
    } else {
        (out * r.range(0.6, 1.1), start + 0.06 * r.normal())
    };
    let drop = 1.0 - waist;
    s.start(cx + out, start)
        .to(cx + 0.1 * up, 0.0)
        .to(cx - 0.8 * up, r.range(0.2, 0.32) * waist)
        .to(cx - 0.7 * up, 0.66 * waist)
        .to(cx + 0.02 * r.normal(), waist)
        .to(cx + 0.85 * down, waist + 0.36 * drop)
        .to(cx + 0.85 * down, waist + 0.74 * drop)
        .to(cx, 1.0)
        .to(cx - 0.85 * down, waist + 0.76 * drop)
        .to(cx - 0.8 * down, waist + 0.38 * drop)
        .to(cx + 0.04 * r.normal(), waist + 0.03 * r.normal())
        .to(cx + 0.8 * up, 0.6 * waist)
        .to(cx + end.0, end.1);
}

/// A ring with a stem, straight or hooked; the ring may be small, slanted, open or nearly all of it.
fn nine(s: &mut Sketch, r: &mut Rng) {
    let right = r.range(0.64, 0.9);
    let left = r.range(0.0, 0.22);
    let eye = r.range(0.26, 0.64);
    let cx = 0.5 * (left + right);
    let tilt = r.range(-0.04, 0.08);
    s.start(right - r.range(-0.04, 0.16), r.range(0.02, 0.24))
        .to(cx + 0.04, 0.0)
        .to(left + 0.08, 0.14 + tilt)
        .to(left, 0.58 * eye + tilt)
        .to(left + 0.1, eye - 0.03)
        .to(cx + 0.02, eye)
        .to(right - 0.08, 0.66 * eye);
    let top = r.range(0.02, 0.26);
    if r.chance(0.5) {
        s.corner(right, top);
    } else {
        s.to(right, top);
    }
    let end = right - r.range(-0.04, 0.34);
    if r.chance(0.74) {
        let bow = r.range(-0.02, 0.05);
        s.to(0.75 * right + 0.25 * end + bow, 0.45)
            .to(0.35 * right + 0.65 * end + bow, 0.75)
            .to(end, 1.0);
    } else {
        s.to(right, 0.5)
            .to(right - 0.03, 0.8)
            .to(cx + 0.02, 1.0)
            .to(left + r.range(-0.05, 0.15), r.range(0.82, 0.97));
    }
}
