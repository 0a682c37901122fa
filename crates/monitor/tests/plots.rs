//! Charts to the byte, and as what they are: XML.

use std::path::Path;

use cupola_monitor::plot::{Axis, Bars, Chart, Form, Line, Mark, Scale, Unit, sparkline};

/// Compares with the file in `tests/golden`. With the variable `CUPOLA_BLESS` set, writes it instead.
fn golden(name: &str, svg: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("golden").join(name);
    if std::env::var_os("CUPOLA_BLESS").is_some() {
        let folder = path.parent().expect("golden files lie in a folder");
        std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        std::fs::write(&path, format!("{svg}\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(expected.trim_end() == svg, "{name} has changed:\n{svg}");
}

/// Every tag is closed by its own name, and no attribute holds what would end it.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a tag without an end: {part}"));
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        match () {
            () if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{svg}"),
            () if !tag.ends_with('/') => open.push(name),
            () => {}
        }
    }
    assert_eq!(open, [""; 0]);
}

fn chart() -> Chart {
    let points = vec![(1.0, 4.0), (10.0, 2.0), (20.0, f64::NAN), (30.0, 1.25), (40.0, 1.0)];
    let first = Line {
        smooth: vec![(1.0, 3.5), (40.0, 1.1)],
        band: vec![(1.0, 3.0, 5.0), (40.0, 0.5, 1.5)],
        bad: vec![20.0],
        ..Line::new("a <run> & \"more\"", points)
    };
    let second = Line { colour: 9, dashed: true, ..Line::new("validation", vec![(10.0, 2.2), (40.0, 1.3)]) };
    Chart {
        title: "loss".into(),
        lines: vec![first, second],
        marks: vec![Mark { x: 15.0, text: "spike".into(), alert: true }, Mark { x: 99.0, ..Mark::default() }],
        width: 400,
        height: 200,
        ..Chart::default()
    }
}

#[test]
fn a_chart_is_the_same_to_the_byte() {
    for (name, form) in [("chart-page.svg", Form::Page), ("chart-standalone.svg", Form::Standalone)] {
        let svg = chart().svg(form);
        assert_well_formed(&svg);
        golden(name, &svg);
    }
}

#[test]
fn a_logarithmic_chart_is_the_same_to_the_byte() {
    let axis = |label: &str, unit| Axis { label: label.into(), scale: Scale::Log, unit, range: None };
    let mut chart = chart();
    (chart.x, chart.y) = (axis("time", Unit::Seconds), axis("", Unit::Number));
    chart.lines[0].points.push((50.0, -1.0));
    golden("chart-log.svg", &chart.svg(Form::Page));
}

#[test]
fn a_histogram_is_the_same_to_the_byte() {
    let bars = Bars {
        title: "lm_head <weight>".into(),
        edges: vec![-0.2, -0.1, 0.0, 0.1, 0.2],
        counts: vec![1, 4000, 0, 12],
        colour: 1,
        width: 300,
        height: 120,
    };
    let svg = bars.svg(Form::Standalone);
    assert_well_formed(&svg);
    golden("histogram.svg", &svg);
}

#[test]
fn charts_without_points_or_extent_are_drawn_all_the_same() {
    let line = |points: &[(f64, f64)]| Line::new("x", points.to_vec());
    for lines in [
        vec![],
        vec![line(&[])],
        vec![line(&[(1.0, 1.0)])],
        vec![line(&[(0.0, 0.0)])],
        vec![line(&[(1.0, f64::NAN), (2.0, f64::INFINITY)])],
        vec![line(&[(1.0, 1e308), (2.0, -1e308)])],
        vec![line(&[(1.0, 1e-320), (2.0, 2e-320)])],
        vec![line(&[(f64::MIN, 1.0), (f64::MAX, 1.0)])],
    ] {
        for scale in [Scale::Linear, Scale::Log] {
            let mut chart = Chart { lines: lines.clone(), width: 1, height: 1, ..Chart::default() };
            (chart.x.scale, chart.y.scale) = (scale, scale);
            let svg = chart.svg(Form::Standalone);
            assert_well_formed(&svg);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
    assert_eq!(sparkline(&[(1.0, 1.0)], 0, 96, 24), "");
    assert_well_formed(&sparkline(&[(1.0, 1.0), (2.0, 3.0)], 0, 96, 24));
}
