//! `kiln devices`

use kiln::device::{Listed, list};
use serde::Serialize;

use super::Result;
use crate::args::Devices;
use crate::output;

#[derive(Serialize)]
struct Json {
    devices: Vec<Listed>,
}

pub fn run(args: Devices) -> Result<()> {
    let devices = list();
    if args.json {
        output::json(&Json { devices })?;
        return Ok(());
    }
    let header = ["--device", "type", "name", "driver", "in this build"];
    let mut rows = vec![header.map(String::from).to_vec()];
    let mut missing = Vec::new();
    for device in devices {
        let built = match (device.built, device.chosen) {
            (true, _) if device.missing.is_some() => "yes, but a driver is missing".into(),
            (true, true) => "yes, taken by --device auto".into(),
            (true, false) => "yes".into(),
            (false, _) => format!("no: build with --features {}", device.backend),
        };
        missing.extend(device.missing);
        let dash = |text: String| if text.is_empty() { "-".into() } else { text };
        let kind = device.kind.to_string();
        rows.push(vec![
            device.flag,
            kind,
            device.name,
            dash(device.driver),
            built,
        ]);
    }
    output::text(&output::table(&rows))?;
    missing.iter().for_each(|missing| output::note(missing));
    Ok(())
}
