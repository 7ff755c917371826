//! Whatever a figure is made of, what is drawn of it is whole, small and fit to be read.

mod svg;

use kiln_plot::{
    Axis, Color, Curve, Error, Figure, Panel, Point, Scale, Trace, curves, save_report, spread,
    visible,
};
use svg::check_svg;

fn points(color: Color, n: usize) -> Vec<Point> {
    (0..n)
        .map(|i| Point {
            x: i as f64,
            y: (i * i) as f64,
            color,
            hover: format!("point {i} of <b>\u{7}"),
        })
        .collect()
}

fn panel(label: &str, n: usize) -> Panel {
    let points = points(Color::BLUE, n);
    Panel {
        x: Axis::over(label, Scale::Linear, points.iter().map(|point| point.x)),
        y: Axis::over("square", Scale::Linear, points.iter().map(|point| point.y)),
        traces: vec![Trace::points("points", Color::BLUE, points)],
        color_bar: None,
    }
}

#[test]
fn curves_of_extreme_values_are_drawn() {
    let points = [
        (0.0, 1e308),
        (1.0, 1e-320),
        (2.0, f64::INFINITY),
        (3.0, -1.0),
    ];
    let curve = Curve {
        name: "loss".to_owned(),
        points: points.to_vec(),
    };
    for log in [false, true] {
        check_svg(
            &curves("Loss", "epoch", "loss", log, std::slice::from_ref(&curve)).to_svg(),
            "curves",
        );
    }
}

#[test]
fn a_curve_of_a_million_points_is_thinned_and_says_so() {
    let points = (0..1_000_000)
        .map(|i| (f64::from(i), f64::from(i).sqrt()))
        .collect();
    let curve = Curve {
        name: "long".to_owned(),
        points,
    };
    let svg = curves("Long", "step", "root", false, &[curve]).to_svg();
    check_svg(&svg, "long");
    assert!(svg.len() < 2_000_000, "{}", svg.len());
    assert!(svg.contains("40000 of 1000000 points drawn"));
}

#[test]
fn titles_names_and_texts_of_a_page_are_fit_to_be_read() {
    let figure = Figure::single("a title\u{1b}[2J", panel("lr\u{7}\nrate <b>", 3));
    let svg = figure.to_svg();
    check_svg(&svg, "single");
    assert!(svg.contains(r"lr\x07\nrate &lt;b&gt;"), "{svg}");
    assert!(figure.to_html().contains(r"point 2 of \u003cb>\\x07"));
    let page = kiln_plot::Page::new("a\u{1b}b")
        .heading("<h>\u{7}")
        .text("one\ntwo\u{0}")
        .table(&["\u{1b}"], &[vec!["x\u{85}".to_owned()]])
        .code("key = 1\n\tindented\r\n")
        .figure(&figure);
    let html = page.to_html();
    assert!(!html.contains(['\u{1b}', '\u{7}', '\u{0}', '\u{85}']));
    assert!(
        html.contains("one\ntwo\\x00") && html.contains("key = 1\n\tindented\r\n"),
        "{html}"
    );
}

#[test]
fn a_grid_has_its_panels_in_rows() {
    let figure = |columns| {
        let panels = vec![panel("a", 3), panel("b", 3), panel("c", 3)];
        Figure::grid("Grid", panels, columns, (200.0, 100.0))
    };
    let size = |figure: &Figure| {
        let svg = figure.to_svg();
        check_svg(&svg, "grid");
        let number = |name: &str| -> f64 {
            let (_, rest) = svg.split_once(&format!(" {name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        (number("width"), number("height"))
    };
    let (row, rows) = (size(&figure(3)), size(&figure(1)));
    assert!(
        row.0 > 2.0 * rows.0 && rows.1 > 2.0 * row.1,
        "{row:?} {rows:?}"
    );
    let taller = size(&figure(3).panel_height(150.0));
    assert_eq!((taller.0, taller.1), (row.0, row.1 + 50.0));
    let wider = size(&figure(1).panel_width(300.0));
    assert_eq!((wider.0, wider.1), (rows.0 + 100.0, rows.1));
}

#[test]
fn what_cannot_be_drawn_says_why_in_its_place() {
    let figure = Figure::missing("Contour", &"the reason is long ".repeat(20));
    let svg = figure.to_svg();
    check_svg(&svg, "missing");
    assert!(
        svg.contains("Contour") && svg.matches("the reason").count() > 10,
        "{svg}"
    );
}

#[test]
fn files_are_written_as_their_endings_say_and_others_are_refused() {
    let folder = std::env::temp_dir().join(format!("kiln-plot-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let figure = Figure::single("Squares", panel("x", 5));
    for (name, start) in [
        ("a.svg", &b"<svg"[..]),
        ("a.HTML", b"<!DOCTYPE html>"),
        ("a.png", b"\x89PNG"),
    ] {
        figure.save(folder.join(name)).unwrap();
        let bytes = std::fs::read(folder.join(name)).unwrap();
        assert!(bytes.starts_with(start), "{name}");
    }
    let error = figure.save(folder.join("a.jpeg")).unwrap_err();
    assert!(matches!(error, Error::Ending { .. }));
    assert!(
        error
            .to_string()
            .starts_with("a plot is saved as .html, .svg or .png, but got "),
        "{error}"
    );
    let error = save_report(
        "Two",
        &[figure.clone(), figure.clone()],
        folder.join("a.svg"),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("several plots are saved as one .html page"),
        "{error}"
    );
    save_report(
        "Two",
        &[figure.clone(), figure.clone()],
        folder.join("two.html"),
    )
    .unwrap();
    let page = std::fs::read_to_string(folder.join("two.html")).unwrap();
    assert_eq!(page.matches("<figure>").count(), 2);
    let error = figure.save(folder.join("missing/a.svg")).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn no_character_that_turns_or_ends_a_line_is_left_visible() {
    let odd: String = ('\0'..='\u{1f}')
        .chain([
            '\u{7f}', '\u{85}', '\u{9b}', '\u{61c}', '\u{200e}', '\u{200f}',
        ])
        .chain('\u{2028}'..='\u{202e}')
        .chain('\u{2066}'..='\u{2069}')
        .chain(['\u{fffe}', '\u{ffff}'])
        .collect();
    let shown = visible(&odd);
    assert!(
        shown.is_ascii() && !shown.contains(|c: char| c.is_control()),
        "{shown}"
    );
    assert_eq!(visible("naïve 名前 😀"), "naïve 名前 😀");
}

#[test]
fn a_part_of_many_things_reaches_from_the_first_to_the_last() {
    for (n, limit) in [(10, 3), (1000, 7), (5, 2), (5, 1)] {
        let part = spread((0..n).collect::<Vec<usize>>(), limit);
        assert_eq!((part.first(), part.last()), (Some(&0), Some(&(n - 1))));
        assert_eq!(part.len(), limit.max(2));
    }
    assert_eq!(spread(vec![1, 2, 3], 3), [1, 2, 3]);
}
