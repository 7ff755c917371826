//! What an SVG must be; the tests of kiln-tune's figures hold theirs to it, too.

/// An SVG that XML readers accept, without a control character or a coordinate that is no number.
pub fn check_svg(svg: &str, place: &str) {
    let odd = svg.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{fffe}' | '\u{ffff}')
    });
    assert_eq!(odd, None, "{place}");
    assert!(
        !svg.contains("NaN") && !svg.contains("<evil") && !svg.contains("alert(1)</script"),
        "{place}"
    );
    // Every element is closed: by itself or by its end.
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag
            .split_once('>')
            .unwrap_or_else(|| panic!("{place}: <{tag}"));
        let name = tag
            .split([' ', '/'])
            .find(|part| !part.is_empty())
            .unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{place}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{place}: {open:?}");
    // Coordinates are near the picture, so that nobody draws a line of two thousand million pixels.
    let attributes = svg.split('"').skip(1).step_by(2);
    let parts = attributes.flat_map(|value| value.split([' ', ',']));
    for number in parts.filter_map(|part| part.parse::<f64>().ok()) {
        assert!(number.abs() < 60_000.0, "{place}: {number}");
    }
}
