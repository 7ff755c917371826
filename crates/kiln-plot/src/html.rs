//! Pages that need nothing but a browser.

use std::collections::HashMap;

use crate::figure::Figure;
use crate::render::escape;
use crate::{layout, render};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page with this body.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}<div id=\"tip\"></div>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escape(title)
    )
}

/// A figure as a part of a page.
pub(crate) fn section(figure: &Figure) -> String {
    let scene = layout::scene(figure);
    // What is told in many panels, such as of one trial, is there once.
    let mut texts: Vec<&str> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut hovers: Vec<serde_json::Value> = Vec::with_capacity(scene.hovers.len());
    for hover in &scene.hovers {
        let text = *known.entry(&hover.text).or_insert_with(|| {
            texts.push(&hover.text);
            texts.len() - 1
        });
        hovers.push(serde_json::json!([
            round(hover.x),
            round(hover.y),
            hover.group,
            text
        ]));
    }
    // Names may hold what would end the script element.
    let hovers = serde_json::json!({ "texts": texts, "hovers": hovers })
        .to_string()
        .replace('<', "\\u003c");
    format!(
        "<figure>\n{}<script type=\"application/json\">{hovers}</script>\n</figure>\n",
        render::interactive_svg(&scene)
    )
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
