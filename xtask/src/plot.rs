//! `cargo xtask plot`: the pictures of the documentation, from real runs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use plotters::prelude::*;

use crate::{
    demo::{
        self,
        scenario::{balance, flow},
        traffic::Samples,
    },
    setup::{self, Purpose},
    workspace,
};

/// Draw the pictures of docs/ from traffic through a real agent (as root, about two minutes).
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to put them
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Run the debug binaries
    #[arg(long)]
    debug: bool,
}

/// A line of a picture: its name, and points in the order of x.
type Line = (String, Vec<(f64, f64)>);

/// What stands around the lines.
struct Frame {
    title: String,
    x: &'static str,
    y: &'static str,
    /// The top of the y axis.
    top: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let folder = arguments.to.clone().unwrap_or_else(|| workspace::root().join("docs/images"));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let binaries = demo::build(arguments.debug)?;

    let play = balance::set_up(&binaries)?;
    let both = balance::slow_for_a_while(&play)?;
    for ((_, path), samples) in balance::PATHS.into_iter().zip(&both) {
        let frame = Frame {
            title: format!(
                "Share of picks, {path} path: shop-2 is 20 ms slower from {:.0} to {:.0} s",
                balance::SLOW.0,
                balance::SLOW.1
            ),
            x: "seconds",
            y: "% of answers",
            top: 100.0,
        };
        draw(&folder.join(format!("slow-{path}.svg")), &frame, &shares(samples))?;
    }
    drop(play);

    let play = flow::set_up(&binaries)?;
    let (plain, adaptive) = flow::overload(&play)?;
    let frame = Frame {
        title: "Overload, 3 × capacity: how long the served requests took".to_owned(),
        x: "seconds",
        y: "median ms",
        top: medians(&plain).iter().map(|point| point.1).fold(1.0, f64::max) * 1.1,
    };
    let lines =
        [("without".to_owned(), medians(&plain)), ("adaptive".to_owned(), medians(&adaptive))];
    draw(&folder.join("overload.svg"), &frame, &lines)
}

/// Each instance's share, half second by half second.
fn shares(samples: &Samples) -> Vec<Line> {
    (balance::NAMES.iter())
        .map(|name| ((*name).to_owned(), over_time(samples, |part| part.share(name))))
        .collect()
}

fn medians(samples: &Samples) -> Vec<(f64, f64)> {
    over_time(samples, |part| part.percentile(0.5))
}

fn over_time(samples: &Samples, value: impl Fn(&Samples) -> f64) -> Vec<(f64, f64)> {
    const STEP: f64 = 0.5;
    let end = samples.0.last().map_or(0.0, |sample| sample.at);
    let steps = (end / STEP) as usize;
    (0..steps)
        .map(|step| step as f64 * STEP)
        .map(|from| (from + STEP / 2.0, value(&samples.between(from, from + STEP))))
        .filter(|point| point.1.is_finite())
        .collect()
}

fn draw(path: &Path, frame: &Frame, lines: &[Line]) -> Result<()> {
    drawn(path, frame, lines).map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
    println!("drawn: {}", path.display());
    Ok(())
}

fn drawn(
    path: &Path,
    frame: &Frame,
    lines: &[Line],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (760, 320)).into_drawing_area();
    area.fill(&WHITE)?;
    let end = lines.iter().flat_map(|(_, points)| points).map(|point| point.0).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(&frame.title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end, 0.0..frame.top)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(frame.x).y_desc(frame.y).light_line_style(WHITE).draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let style = Palette99::pick(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let mut legend = chart.configure_series_labels();
    legend.background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}
