//! What a network consists of, layer by layer.

use std::fmt;

use serde::Serialize;

use crate::pass::{Shapes, product};

/// A layer of a [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerRow {
    /// Its name, as PyTorch's `named_modules()` has it.
    pub name: String,
    /// PyTorch's name of its kind.
    pub kind: &'static str,
    /// The shape of its output for a batch of one.
    pub output: Vec<usize>,
    /// Values in its parameters; running statistics are not counted.
    pub parameters: usize,
    /// Multiply-adds of convolutions and linear layers for one image, biases left out; for a transposed
    /// convolution, input values × output channels × kernel area.
    pub macs: u64,
}

/// A network layer by layer, for one image of a given size. It is worked out from the shapes alone.
///
/// ```
/// # let device = kiln_testing::devices().remove(0);
/// let settings = kiln_zoo::Settings { input: [3, 224, 224], num_classes: 1000, ..Default::default() };
/// let summary = kiln_zoo::create("resnet18", &settings, &device)?.summary([3, 224, 224]);
/// assert_eq!(summary.parameters(), 11_689_512);
/// assert_eq!(summary.macs(), 1_814_073_344);
/// assert_eq!(summary.layers[0].output, [1, 64, 112, 112]);
/// # Ok::<(), kiln_zoo::ZooError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Channels, height and width of the image.
    pub input: [usize; 3],
    /// The layers in the order of the forward pass.
    pub layers: Vec<LayerRow>,
    /// The first layer that has no output, if the image is too small for the network.
    pub too_small: Option<String>,
}

impl Summary {
    pub(crate) fn new(input: [usize; 3], shapes: Shapes) -> Self {
        Self {
            input,
            too_small: shapes.too_small().map(String::from),
            layers: shapes.into_rows(),
        }
    }

    /// Values in all parameters.
    pub fn parameters(&self) -> usize {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.parameters))
    }

    /// Values in the output of the largest layer, for one image.
    pub fn largest_output(&self) -> usize {
        let sizes = self.layers.iter().map(|layer| product(&layer.output));
        sizes.max().unwrap_or(0)
    }

    /// Multiply-adds for one image.
    pub fn macs(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.macs))
    }
}

/// A table with a line of totals.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |shape: &[usize]| {
            let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
            axes.join("x")
        };
        let header = ["layer", "kind", "output", "parameters", "multiply-adds"];
        let mut rows = vec![header.map(String::from)];
        rows.extend(self.layers.iter().map(|layer| {
            [
                layer.name.clone(),
                layer.kind.into(),
                shape(&layer.output[1..]),
                grouped(layer.parameters as u64),
                grouped(layer.macs),
            ]
        }));
        rows.push([
            "total".into(),
            String::new(),
            String::new(),
            grouped(self.parameters() as u64),
            grouped(self.macs()),
        ]);
        let width = |i: usize| rows.iter().map(|row| row[i].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in &rows {
            let [name, kind, output, parameters, macs] = row;
            writeln!(
                f,
                "{name:<w0$}  {kind:<w1$}  {output:>w2$}  {parameters:>w3$}  {macs:>w4$}",
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2],
                w3 = widths[3],
                w4 = widths[4],
            )?;
        }
        Ok(())
    }
}

/// `11_689_512` as `11,689,512`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
