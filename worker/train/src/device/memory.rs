//! How much memory a graphics card has. Burn does not tell, so its driver is asked by the card's place
//! on the bus: that of AMD writes it into a file, that of NVIDIA comes with a program that prints it.
//! What neither knows stays unknown.

use std::{fs, path::Path, process::Command};

use super::DeviceInfo;

/// Where Linux describes what is on the bus.
const BUS: &str = "/sys/bus/pci/devices";

/// Fills in the memory of listed cards, where it is known. Starts a program that may hang with a broken
/// driver: call it only in a throw-away child.
pub(super) fn note(devices: &mut [DeviceInfo]) {
    if devices.iter().all(|device| device.software) {
        return;
    }
    let printed = printed();
    for device in devices.iter_mut().filter(|device| !device.software) {
        let Some((_, place)) = device.id.0.split_once(':') else { continue };
        device.memory_bytes = written(Path::new(BUS), place)
            .or_else(|| printed.as_deref().and_then(|text| of_card(text, place)));
    }
}

/// What the driver of AMD writes of a card.
fn written(bus: &Path, place: &str) -> Option<u64> {
    let text = fs::read_to_string(bus.join(place).join("mem_info_vram_total")).ok()?;
    text.trim().parse().ok()
}

/// What the program of NVIDIA prints: a line for each card with its place and its memory in MiB.
fn printed() -> Option<String> {
    let query = ["--query-gpu=pci.bus_id,memory.total", "--format=csv,noheader,nounits"];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The memory of the card at a place; the program writes the first part of it with more digits.
fn of_card(printed: &str, place: &str) -> Option<u64> {
    let bare = |place: &str| place.trim().trim_start_matches('0').to_lowercase();
    printed.lines().find_map(|line| {
        let (card, mib) = line.split_once(',')?;
        (bare(card) == bare(place)).then(|| mib.trim().parse::<u64>().ok())??.checked_mul(1 << 20)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceId;

    #[test]
    fn memory_is_read_by_the_place_on_the_bus() {
        let printed =
            "00000000:65:00.0, 24576\n00000000:B3:00.0, 143771\n00000001:01:00.0, [N/A]\n";
        assert_eq!(of_card(printed, "0000:b3:00.0"), Some(143_771 << 20));
        assert_eq!(of_card(printed, "0001:01:00.0"), None, "a card whose memory is not told");
        assert_eq!(of_card(printed, "0000:01:00.0"), None);
        assert_eq!(of_card("", "0000:65:00.0"), None);
    }

    #[test]
    fn memory_is_read_from_the_drivers_file() {
        let bus = tempfile::tempdir().unwrap();
        let card = bus.path().join("0000:03:00.0");
        fs::create_dir(&card).unwrap();
        assert_eq!(written(bus.path(), "0000:03:00.0"), None);
        fs::write(card.join("mem_info_vram_total"), "17163091968\n").unwrap();
        assert_eq!(written(bus.path(), "0000:03:00.0"), Some(17_163_091_968));
    }

    #[test]
    fn software_is_not_asked() {
        let mut devices = [DeviceInfo {
            id: DeviceId("vulkan:llvmpipe#0".to_owned()),
            backend: "vulkan".to_owned(),
            name: "llvmpipe".to_owned(),
            memory_bytes: None,
            software: true,
        }];
        note(&mut devices);
        assert_eq!(devices[0].memory_bytes, None);
    }
}
