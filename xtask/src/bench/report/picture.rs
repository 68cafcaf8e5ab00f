//! A bar for each contender, with the spread of its rounds.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{
    super::{
        result::{Comparison, Results, Row, Spread},
        scenario::{self, Load},
    },
    short, title,
};

const BAR: i32 = 26;
const LEFT: i32 = 210;
const WIDTH: i32 = 760;
const TOP: i32 = 40;
/// Room for the numbers behind the bars.
const RIGHT: i32 = 110;

/// The pictures of a comparison, as file names below the folder.
pub fn draw_all(results: &Results, folder: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    let mut names = Vec::new();
    for comparison in &results.comparisons {
        let scenario = scenario::named(&comparison.scenario);
        let about = scenario.map_or("", |scenario| scenario.about);
        let bulk = scenario.is_some_and(|scenario| matches!(scenario.load, Load::Iperf));
        let (factor, unit) = if bulk { (8e-9, "Gbit/s") } else { (1.0, "per second") };
        let charts: [(&str, String, Bars); 2] = [
            (
                "rate",
                format!("{about}: {unit}"),
                bars(comparison, |row| row.spread(|sample| sample.rate * factor)),
            ),
            (
                "cpu",
                format!("{about}: CPU seconds of the whole path"),
                bars(comparison, |row| row.spread(|sample| sample.path_cpu)),
            ),
        ];
        for (kind, caption, bars) in charts {
            if bars.is_empty() {
                continue;
            }
            let name = format!("bench-{}-{kind}.svg", comparison.scenario);
            let path = folder.join(&name);
            draw(&path, &caption, &bars)
                .map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
            names.push(name);
        }
    }
    Ok(names)
}

type Bars = Vec<(String, bool, Spread)>;

fn bars(comparison: &Comparison, value: impl Fn(&Row) -> Option<Spread>) -> Bars {
    let ours = |row: &Row| ["kernel", "node", "proxy"].contains(&row.contender.as_str());
    let rows = comparison.rows.iter();
    rows.filter_map(|row| Some((title(row), ours(row), value(row)?))).collect()
}

fn draw(
    path: &Path,
    caption: &str,
    bars: &Bars,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let height = TOP + BAR * i32::try_from(bars.len())? + 12;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32| ("sans-serif", size).into_font();
    area.draw(&Text::new(caption.to_owned(), (12, 12), text(16)))?;
    let top = bars.iter().map(|(_, _, spread)| spread.highest).fold(f64::EPSILON, f64::max);
    let scale = |value: f64| LEFT + (value / top * f64::from(WIDTH - LEFT - RIGHT)) as i32;
    for (index, (name, ours, spread)) in (0..).zip(bars) {
        let y = TOP + index * BAR;
        let color = if *ours { RGBColor(0, 110, 190) } else { RGBColor(165, 170, 175) };
        area.draw(&Text::new(name.clone(), (12, y + 4), text(13)))?;
        let corners = [(LEFT, y + 2), (scale(spread.median), y + BAR - 6)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        let middle = y + BAR / 2 - 2;
        let ends = vec![(scale(spread.lowest), middle), (scale(spread.highest), middle)];
        area.draw(&PathElement::new(ends, BLACK))?;
        let end = (scale(spread.highest) + 6, y + 4);
        area.draw(&Text::new(short(spread.median), end, text(13)))?;
    }
    area.present()?;
    Ok(())
}
