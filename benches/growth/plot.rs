//! Small charts beside each other as SVG, both axes logarithmic: what is level does not grow, and what rises as the dashed
//! line does grows with the streams. Readable on light and dark.

use std::fmt::Write as _;

/// One chart.
#[derive(Clone, Copy)]
pub struct Panel {
    pub title: &'static str,
    pub unit: &'static str,
    /// How many units there are in a second or a byte.
    pub scale: f64,
    /// Which of the colours it has.
    pub accent: usize,
}

impl Panel {
    /// A value with its unit.
    pub fn show(&self, value: f64) -> String {
        let value = value * self.scale;
        format!("{value:.*} {}", if value < 10.0 { 2 } else { 0 }, self.unit)
    }
}

const COLUMNS: usize = 3;
/// The size of a panel, and of the chart in it.
const PANEL: (f64, f64) = (260.0, 210.0);
const CHART: (f64, f64) = (190.0, 130.0);
/// Where in a panel its chart begins.
const START: (f64, f64) = (54.0, 38.0);

const STYLE: &str = "svg{font:12px system-ui,sans-serif;background:#fff}.back{fill:#fff}text{fill:#1f2328}\
    .small{font-size:10px;fill:#59636e}.grid{stroke:#d1d9e0}.linear{stroke:#818b98;stroke-dasharray:3 4}\
    .a0{stroke:#0969da;fill:#0969da}.a1{stroke:#9a6700;fill:#9a6700}.a2{stroke:#1a7f37;fill:#1a7f37}\
    .line{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){svg{background:#0d1117}.back{fill:#0d1117}\
    text{fill:#f0f6fc}.small{fill:#9198a1}.grid{stroke:#3d444d}.linear{stroke:#9198a1}\
    .a0{stroke:#4493f8;fill:#4493f8}.a1{stroke:#d29922;fill:#d29922}.a2{stroke:#3fb950;fill:#3fb950}}";

/// Draws a panel for each column of the rows, of which there is one for each size.
pub fn draw(panels: &[Panel], sizes: &[usize], rows: &[Vec<f64>]) -> String {
    let lines = panels.len().div_ceil(COLUMNS);
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let at = |count: usize, step: f64| count as f64 * step;
    let (width, height) = (at(COLUMNS, PANEL.0), at(lines, PANEL.1));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <title>What grows with the number of image streams</title><style>{STYLE}</style>\
         <rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let corner = (at(number % COLUMNS, PANEL.0), at(number / COLUMNS, PANEL.1));
        let values: Vec<f64> = rows.iter().map(|row| row[number] * panel.scale).collect();
        let _ = write!(svg, "<g transform=\"translate({},{})\">", corner.0 + START.0, corner.1 + START.1);
        chart(&mut svg, panel, sizes, &values);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn chart(svg: &mut String, panel: &Panel, sizes: &[usize], values: &[f64]) {
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
    let decades: Vec<f64> = sizes.iter().map(|size| (*size as f64).log10()).collect();
    let last = decades.last().copied().unwrap_or(1.0);
    let (low, high) = bounds(values);
    let x = |decade: f64| CHART.0 * decade / last;
    let y = |value: f64| CHART.1 * (high - value.log10()) / (high - low);
    let _ = write!(svg, "<text y=\"-16\">{}, {}</text>", panel.title, panel.unit);
    let mut decade = low;
    while decade <= high {
        let height = y(10_f64.powf(decade));
        let label = 10_f64.powf(decade);
        let _ = write!(svg, "<path class=\"grid\" d=\"M0 {height:.1}H{}\"/>", CHART.0);
        let _ =
            write!(svg, "<text class=\"small\" text-anchor=\"end\" x=\"-6\" y=\"{:.1}\">{label}</text>", height + 3.0);
        decade += 1.0;
    }
    for (size, decade) in sizes.iter().zip(&decades) {
        let label = if *size < 1000 { size.to_string() } else { format!("{}k", size / 1000) };
        let middle = "class=\"small\" text-anchor=\"middle\"";
        let _ = write!(svg, "<text {middle} x=\"{:.1}\" y=\"{}\">{label}</text>", x(*decade), CHART.1 + 15.0);
    }
    let _ = write!(
        svg,
        "<text class=\"small\" text-anchor=\"end\" x=\"{}\" y=\"{}\">image streams</text>",
        CHART.0,
        CHART.1 + 28.0
    );
    // Through the last point, as far down as the chart goes.
    let (end, steps) = values.last().map_or((low, 0.0), |value| (value.log10(), (value.log10() - low).min(last)));
    let (from, to) = ((x(last - steps), y(10_f64.powf(end - steps))), (x(last), y(10_f64.powf(end))));
    let _ = write!(svg, "<path class=\"linear\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>", from.0, from.1, to.0, to.1);
    let points: Vec<(f64, f64)> = decades.iter().zip(values).map(|(decade, value)| (x(*decade), y(*value))).collect();
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let _ = write!(svg, "<path class=\"line a{}\" style=\"fill:none\" d=\"M{}\"/>", panel.accent, path.join("L"));
    for (x, y) in points {
        let _ = write!(svg, "<circle class=\"a{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>", panel.accent);
    }
}

/// The decades that all values are in.
fn bounds(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values.iter().copied().fold(0.0, f64::max).log10().ceil();
    (low, high.max(low + 1.0))
}
