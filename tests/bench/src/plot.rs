//! Pictures: SVG, both axes logarithmic, because what is compared lies orders of magnitude apart.

use std::error::Error;

use plotters::prelude::{
    ChartBuilder, Circle, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor,
    Rectangle, SVGBackend, WHITE,
};
use plotters::style::Color as _;
use serde::Serialize;

const WIDTH: u32 = 1000;
const CURVES_HEIGHT: u32 = 360;
const BAR_HEIGHT: u32 = 34;
const FRAME_HEIGHT: u32 = 90;

const COLORS: [RGBColor; 7] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0x17, 0xbe, 0xcf),
];

#[derive(Serialize)]
pub enum Plot {
    /// One bar for each name: the middle and the tail.
    Bars { title: String, unit: &'static str, bars: Vec<Bar> },
    /// One line for each name.
    Curves { title: String, x: &'static str, unit: &'static str, lines: Vec<Line> },
}

#[derive(Serialize)]
pub struct Bar {
    pub name: String,
    pub p50: f64,
    pub p99: f64,
}

#[derive(Serialize)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Plot {
    pub fn svg(&self) -> Result<String, Box<dyn Error>> {
        let mut svg = String::new();
        match self {
            Self::Bars { title, unit, bars } => draw_bars(&mut svg, title, unit, bars)?,
            Self::Curves { title, x, unit, lines } => draw_curves(&mut svg, title, x, unit, lines)?,
        }
        Ok(svg)
    }
}

/// From the power of ten below the least to the one above the most.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    if least > most {
        return (1.0, 10.0);
    }
    (10f64.powf(least.log10().floor()), 10f64.powf((most * 1.01).log10().ceil()))
}

fn draw_bars(
    svg: &mut String,
    title: &str,
    unit: &str,
    bars: &[Bar],
) -> Result<(), Box<dyn Error>> {
    let height = FRAME_HEIGHT + BAR_HEIGHT * bars.len() as u32;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (least, most) = decades(bars.iter().flat_map(|bar| [bar.p50, bar.p99]));
    // A bar begins at the left edge, and the smallest one must be seen too.
    let least = least / 10.0;
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{title} ({unit}; bar p50, dot p99)"), ("sans-serif", 17))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(210)
        .build_cartesian_2d((least..most).log_scale(), 0.0..rows)?;
    let name_of = |at: &f64| {
        let centre = (at.fract() - 0.5).abs() < 0.01;
        let bar = bars.get((rows - at) as usize).filter(|_| centre);
        bar.map_or(String::new(), |bar| bar.name.clone())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len() * 2 + 1)
        .y_label_formatter(&name_of)
        .x_label_formatter(&|value| figure(*value))
        .draw()?;
    for (index, bar) in bars.iter().enumerate() {
        let (top, color) = (rows - index as f64, COLORS[index % COLORS.len()]);
        let corners = [(least, top - 0.2), (bar.p50.max(least), top - 0.8)];
        chart.draw_series([Rectangle::new(corners, color.filled())])?;
        chart.draw_series([Circle::new((bar.p99.max(least), top - 0.5), 4, color.filled())])?;
    }
    root.present()?;
    Ok(())
}

fn draw_curves(
    svg: &mut String,
    title: &str,
    x: &str,
    unit: &str,
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, (WIDTH, CURVES_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let (left, right) = decades(points().map(|point| point.0));
    let (least, most) = decades(points().map(|point| point.1));
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 17))
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d((left..right).log_scale(), (least..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(unit)
        .x_label_formatter(&|value| figure(*value))
        .y_label_formatter(&|value| figure(*value))
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(line.points.iter().map(|at| Circle::new(*at, 3, color.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw()?;
    root.present()?;
    Ok(())
}

/// Without a tail of zeros.
fn figure(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{}", (value * 1e6).round() / 1e6),
    }
}
