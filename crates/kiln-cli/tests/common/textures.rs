//! Folders of pictures that a small model learns in a second: each class is a texture of its own.

use std::path::{Path, PathBuf};

use kiln::data::info::Picture;

/// How the pictures of a folder look.
#[derive(Clone, Copy)]
pub struct Look {
    pub height: usize,
    pub width: usize,
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
}

impl Look {
    pub fn gray(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            channels: 1,
        }
    }

    pub fn rgb(height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            channels: 3,
        }
    }

    /// Stripes whose direction and brightness are the class's, with noise and a phase that the number decides. They reach
    /// every border, and many are lighter there than inside.
    pub fn texture(self, class: usize, number: usize) -> Picture {
        let mut state = (class * 7919 + number * 104_729 + 1) as u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as usize % 40
        };
        let phase = noise();
        let mut pixels = Vec::new();
        for y in 0..self.height {
            for x in 0..self.width {
                let along = match class % 3 {
                    0 => x,
                    1 => y,
                    _ => x + y,
                };
                let light = (along + phase) / 2 % 2 == 0;
                for channel in 0..self.channels {
                    let base = if light {
                        110 + 8 * class
                    } else {
                        20 + 8 * class
                    };
                    pixels.push((base + noise() + 15 * ((channel + class) % 3)).min(255) as u8);
                }
            }
        }
        Picture {
            width: self.width,
            height: self.height,
            channels: self.channels,
            pixels,
        }
    }

    /// Writes `count` pictures of each class into folders of the classes' names, whose textures are numbered as given;
    /// returns the files with their classes' names.
    pub fn classes(
        self,
        dir: &Path,
        classes: &[(&str, usize)],
        numbers: std::ops::Range<usize>,
    ) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for &(name, class) in classes {
            std::fs::create_dir_all(dir.join(name)).unwrap();
            for number in numbers.clone() {
                let file = dir.join(name).join(format!("{number}.png"));
                self.texture(class, number).write_png(&file).unwrap();
                files.push((file, name.to_owned()));
            }
        }
        files
    }

    /// Writes pictures with a light square on a dark texture into `images`, and masks of 0 and 255 into `masks`.
    pub fn squares(self, dir: &Path, numbers: std::ops::Range<usize>) -> Vec<PathBuf> {
        for folder in ["images", "masks"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let mut files = Vec::new();
        for number in numbers {
            let (top, left) = (1 + number % 5, 2 + number * 3 % 7);
            let mut picture = self.texture(0, number);
            let mut mask = vec![0; self.height * self.width];
            for y in top..top + 6 {
                for x in left..left + 6 {
                    mask[y * self.width + x] = 255;
                    let at = (y * self.width + x) * self.channels;
                    picture.pixels[at..at + self.channels].fill(220);
                }
            }
            let file = dir.join("images").join(format!("{number}.png"));
            picture.write_png(&file).unwrap();
            let mask = Picture {
                channels: 1,
                pixels: mask,
                ..picture
            };
            mask.write_png(&dir.join("masks").join(format!("{number}.png")))
                .unwrap();
            files.push(file);
        }
        files
    }
}
