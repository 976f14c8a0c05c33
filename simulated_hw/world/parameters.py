"""Component values of the simulated laboratory: typed, each with its unit and where it comes from, read from TOML."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args, get_type_hints

from labctl.errors import ConfigError

KINDS = ("published:", "derived:", "guessed:")
"""How the text of a source begins."""


class Source(NamedTuple):
    """One component value and where it comes from; ``source`` begins with published, derived or guessed."""

    name: str
    value: float | bool
    unit: str
    source: str


def _number(unit: str, lowest: float = 0.0, highest: float = math.inf) -> Any:
    return field(metadata={"unit": unit, "lowest": lowest, "highest": highest})


number = _number
"""For the dataclasses of other laboratories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """⁴⁰Ca⁺."""

    d52_lifetime_s: float = _number("s", 1e-3)
    p32_to_s12: float = _number("1", 0, 1)
    """Branching of P3/2 to S1/2 (with the 393 nm photon), to D5/2 and to D3/2."""
    p32_to_d52: float = _number("1", 0, 1)
    p32_to_d32: float = _number("1", 0, 1)
    photon_decay_s: float = _number("s", 1e-12)
    """1/e decay of the 393 nm wave packet."""
    p12_linewidth_hz: float = _number("Hz", 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What differs between Alice and Bob."""

    objective_collection: float = _number("1", 0, 1)
    fibre_coupling: float = _number("1", 0, 1)
    coupling_drift: float = _number("1", 0, 1)
    """rms relative drift of the fibre coupling."""
    coupling_drift_time_s: float = _number("s", 1e-3)
    arm_length_m: float = _number("m")
    reference_photons_hz: float = _number("Hz")
    """393 nm reference photons per second into the converter at nominal power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaserHead:
    """A laser at its operating point; power is that on its way to the experiment."""

    wavelength_m: float = _number("m", 1e-7, 1e-5)
    power_w: float = _number("W")
    nominal_current_a: float = _number("A")
    threshold_current_a: float = _number("A")
    largest_current_a: float = _number("A")
    capture_range_hz: float = _number("Hz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasers:
    """The lasers of one node."""

    laser_397: LaserHead
    laser_866: LaserHead
    laser_854: LaserHead
    laser_729: LaserHead
    laser_393: LaserHead


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpLaser:
    """Seed of a converter's pump; an amplifier and a frequency doubler behind it follow its power."""

    wavelength_m: float = _number("m", 1e-7, 1e-5)
    """Of the seed: twice that of the pump."""
    nominal_power_w: float = _number("W", 1e-6)
    """Seed power that gives the nominal pump power on the converter."""
    highest_power_w: float = _number("W", 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Quantisation field of a node: one pair of coils, and what the field does to the 729 nm line."""

    coil_current_a: float = _number("A", 0.0, 10.0)
    """Current at which the 729 nm laser is on the line."""
    tesla_per_a: float = _number("T/A")
    line_hz_per_t: float = _number("Hz/T", -1e12, 1e12)
    """Shift of the qubit line with the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Cooling and optical pumping."""

    saturation: float = _number("1", 1e-6)
    """Saturation parameter of the 397 nm cooling beam at nominal power."""
    detuning_hz: float = _number("Hz", -1e9, 1e9)
    """Nominal detuning of the cooling beam from the S1/2-P1/2 line."""
    repump_width_hz: float = _number("Hz", 1.0)
    """Power-broadened FWHM of the 866 nm repumper and of the 854 nm reset."""
    repump_saturation: float = _number("1", 1e-6)
    """866 nm power, relative to nominal, at which half of the fluorescence is left."""
    pump_error: float = _number("1", 0, 1)
    pump_time_s: float = _number("s", 1e-12)
    reset_time_s: float = _number("s", 1e-12)
    cool_time_s: float = _number("s", 1e-12)
    doppler_quanta: float = _number("1")
    eit_quanta: float = _number("1")
    eit_width_hz: float = _number("Hz", 1.0)
    hot_quanta: float = _number("1")
    heating_per_s: float = _number("1/s")
    lamb_dicke: float = _number("1", 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qubit:
    """The 729 nm qubit S1/2-D5/2."""

    pi_time_s: float = _number("s", 1e-9)
    """π time at nominal amplitude and power."""
    pi_infidelity: float = _number("1", 0, 0.5)
    """Infidelity of a π pulse at nominal settings (depolarising), in proportion for other angles."""
    line_noise_hz: float = _number("Hz")
    """rms of the fast noise of the qubit line: the field moves it, and the memory line with it."""
    line_noise_time_s: float = _number("s", 1e-9)
    line_drift_hz: float = _number("Hz")
    line_drift_time_s: float = _number("s", 1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory qubit: two Zeeman states of S1/2, driven by a bichromatic Raman beam at 393 nm."""

    pi_time_s: float = _number("s", 1e-9)
    """Raman π time at nominal amplitude and power."""
    hz_per_t: float = _number("Hz/T", -1e12, 1e12)
    """Shift of the memory line with the field."""
    scattered_alice: float = _number("1", 0, 1)
    """Probability of spontaneous emission in a Raman π pulse, in proportion for other angles."""
    scattered_bob: float = _number("1", 0, 1)
    flip_share: float = _number("1", 0, 1)
    """Share of these emissions that flips the pair (and <ZZ>); that which ends in D5/2 or D3/2 has the branching of P3/2."""
    angle_error: float = _number("1", -0.5, 0.5)
    """Relative error of the angle of a Raman pulse."""
    light_shift_hz: float = _number("Hz", -1e6, 1e6)
    """Shift of the memory line while the Raman light is on, beyond what the tone makes up for."""
    common_noise: float = _number("1", 0, 1)
    """Share of the variance of the fast field noise that both nodes have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTones:
    """What the mains do to the 729 nm line of a node: hz x cos(2π (k θ + turns)) at harmonic k, θ the mains' phase."""

    first_hz: float = _number("Hz")
    first_turns: float = _number("1", -1, 1)
    second_hz: float = _number("Hz")
    second_turns: float = _number("1", -1, 1)
    third_hz: float = _number("Hz")
    third_turns: float = _number("1", -1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tones:
    """Mains tones of both nodes."""

    alice: LineTones
    bob: LineTones


@dataclass(frozen=True, slots=True, kw_only=True)
class Excitation:
    """The 854 nm pulse D5/2-P3/2."""

    pulse_s: float = _number("s", 1e-12)
    """Length at which amplitude 1 and nominal power make a π pulse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """Fluorescence at 397 nm."""

    bright_hz: float = _number("Hz")
    """Counts per second of a bright ion, without background, at nominal cooling light."""
    stray_hz: float = _number("Hz")
    """Background of the cooling light at nominal power."""
    dark_hz: float = _number("Hz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Converter:
    """PPLN waveguide 393 nm -> 1550 nm with a 527 nm pump."""

    pump_power_w: float = _number("W", 1e-9)
    best_pump_power_w: float = _number("W", 1e-9)
    """Pump power of complete internal conversion."""
    peak_efficiency: float = _number("1", 0, 1)
    """From the input fibre to the output fibre at the best pump power and temperature."""
    oven_k: float = _number("K", 1.0)
    acceptance_k: float = _number("K", 1e-6)
    """FWHM of the phase matching against oven temperature."""
    noise_hz_per_nm: float = _number("Hz/nm")
    """Noise photons per second and nm at the nominal pump power."""
    signal_wavelength_m: float = _number("m", 1e-7, 1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Bandpass, volume Bragg grating and etalon behind the converter."""

    etalon_fwhm_hz: float = _number("Hz", 1.0)
    etalon_spacing_hz: float = _number("Hz", 1.0)
    """Free spectral range of the etalon."""
    grating_fwhm_hz: float = _number("Hz", 1.0)
    other_transmission: float = _number("1", 0, 1)
    """Bandpass, grating, etalon peak and couplings together."""
    etalon_k: float = _number("K", 1.0)
    etalon_hz_per_k: float = _number("Hz/K", -1e12, 1e12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fibre:
    """The fibre between node and midpoint."""

    loss_db_per_km: float = _number("dB/km")
    index: float = _number("1", 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Midpoint:
    """Interferometer at Charlie."""

    transmission: float = _number("1", 0, 1)
    """Splices, demultiplexer and polarisation optics in front of each detector."""
    photon_overlap: float = _number("1", 0, 1)
    """Squared overlap of the two photons' polarisation, recoil and time-bandwidth, at equal spectra."""
    reference_overlap: float = _number("1", 0, 1)
    """Contrast of the reference fringe at equal intensities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polarisation:
    """Polarisation of each arm at the midpoint."""

    paddle_1_rad: float = _number("rad", 0.0, 2.967)
    """Paddle angles that undo what the fibre does, as found at the last alignment."""
    paddle_2_rad: float = _number("rad", 0.0, 2.967)
    paddle_3_rad: float = _number("rad", 0.0, 2.967)
    drift_rad: float = _number("rad")
    """Rms turn of the polarisation since then."""
    drift_time_s: float = _number("s", 1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectors:
    """Superconducting nanowires."""

    efficiency: float = _number("1", 0, 1)
    dark_hz: float = _number("Hz")
    jitter_s: float = _number("s")
    dead_s: float = _number("s", 0, 1e-3)
    """Dead time after a click; light in it does not prolong it."""
    afterpulse: float = _number("1", 0, 0.5)
    """Probability that a click is followed by one without a photon, after the dead time."""
    afterpulse_time_s: float = _number("s", 1e-12)
    """Mean time from the end of the dead time to the afterpulse (exponential)."""
    latch: float = _number("1", 0, 1)
    """Probability that a photon that arrives in the dead time leaves the wire resistive until its bias is taken off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcousticLine:
    """One vibration that the fibre picks up."""

    frequency_hz: float = _number("Hz", 0.1)
    rad_per_km: float = _number("rad/km")
    """Amplitude of the phase per kilometre of fibre, both arms together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What moves the optical phase between the two arms, and the fast lock of the fibre."""

    thermal_rad_per_k_m: float = _number("rad/(K m)")
    spool_drift_k_per_s: float = _number("K/s", -math.inf)
    """Temperature drift of Alice's spool; Bob's goes the other way."""
    drift_rad_per_s_100km: float = _number("rad/s")
    """rms drift rate of the phase of 100 km of spooled fibre; it grows as the root of the length."""
    drift_time_s: float = _number("s")
    """How long the drift rate keeps its sign."""
    acoustic_1: AcousticLine
    acoustic_2: AcousticLine
    lock_wavelength_m: float = _number("m", 1e-7, 1e-5)
    """Of the light of the fast lock."""
    lock_bandwidth_hz: float = _number("Hz", 1.0)
    """Where the lock's open-loop gain is 1."""
    lock_noise_rad: float = _number("rad")
    """rms phase that the noise of the lock's own detector makes within its bandwidth."""
    laser_linewidth_hz: float = _number("Hz")
    """Relative linewidth of the light in the two arms: pump lasers of the converters, paths outside the fast lock."""
    unseen_rad: float = _number("rad")
    """rms of the phase that the 854 nm and 729 nm beams have beside the reference light, which does not see it."""
    unseen_time_s: float = _number("s", 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Light for alignment."""

    power_w: float = _number("W")
    """393 nm power into the converter."""
    bright_w: float = _number("W")
    """1550 nm alignment light into the fibre of a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondLine:
    """The 729 nm line from the pumped state of S1/2 to another Zeeman state of D5/2."""

    hz_per_t: float = _number("Hz/T", -1e12, 1e12)
    rabi: float = _number("1")
    """Rabi frequency, relative to that of the qubit line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The mains."""

    frequency_hz: float = _number("Hz", 1.0, 1e3)
    start_turns: float = _number("1", 0, 1)
    """Phase of the voltage when the world begins, turns after its zero crossing from below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the laboratory is simulated."""

    slice_s: float = _number("s", 1e-6, 10.0)
    """Laboratory time for which the odds of an attempt hold."""
    powered: bool = _number("")
    """Whether the instruments begin at their operating points, lasers locked; otherwise all begin switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """All component values of a laboratory of two calcium nodes and a midpoint."""

    atom: Atom
    alice: Node
    bob: Node
    lasers: Lasers
    pump_seed: PumpLaser
    field: Field
    preparation: Preparation
    qubit: Qubit
    memory: Memory
    tones: Tones
    excitation: Excitation
    readout: Readout
    converter: Converter
    filters: Filters
    fibre: Fibre
    midpoint: Midpoint
    polarisation: Polarisation
    detectors: Detectors
    phase: Phase
    alignment: Alignment
    run: Run
    mains: Grid | None = None
    """None: this laboratory has no trigger from the mains."""
    second_line: SecondLine | None = None
    """None: the 729 nm laser finds the qubit line only."""


TableT = TypeVar("TableT")


def load(path: Path) -> tuple[Parameters, tuple[Source, ...]]:
    """Component values from a TOML file, and the list of their sources."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the world's parameter file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return parse(content, str(path))


def parse(
    content: Mapping[str, Any], file: str = "world parameters"
) -> tuple[Parameters, tuple[Source, ...]]:
    """Component values from parsed TOML: tables of ``name = [value, "source"]``.

    file:  named in errors
    Raises ConfigError that names file, table and key.
    """
    return parse_as(Parameters, content, file)


def parse_as(
    cls: type[TableT], content: Mapping[str, Any], file: str = "world parameters"
) -> tuple[TableT, tuple[Source, ...]]:
    """The same for another laboratory's dataclass of tables."""
    sources: list[Source] = []
    return _table(cls, content, file, "", sources), tuple(sources)


def _table(
    cls: type[TableT], content: Mapping[str, Any], file: str, name: str, sources: list[Source]
) -> TableT:
    """One table as the dataclass ``cls``; nested dataclasses are nested tables."""
    hints = get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cast(Any, cls))}
    unknown = [key for key in content if key not in fields]
    if unknown:
        raise ConfigError(
            f"{file}: [{name}] has no key {unknown[0]!r}; it takes {', '.join(fields)}"
            if name
            else f"{file}: no table [{unknown[0]}]; there are {', '.join(fields)}"
        )
    values: dict[str, Any] = {}
    for key, item in fields.items():
        place = f"{name}.{key}" if name else key
        if key not in content and item.default is not dataclasses.MISSING:
            continue
        kind = next((one for one in get_args(hints[key]) if one is not type(None)), hints[key])
        nested = dataclasses.is_dataclass(kind)
        if key not in content:
            what = f"table [{place}]" if nested else f"[{name}] {key}"
            how = "add the table" if nested else f'write {key} = [value, "source"]'
            raise ConfigError(f"{file}: {what} is missing; {how}")
        if nested:
            if not isinstance(content[key], Mapping):
                raise ConfigError(f"{file}: {place} must be a table [{place}], not {content[key]!r}")
            values[key] = _table(cast(type, kind), content[key], file, place, sources)
        else:
            values[key] = _value(content[key], kind, item.metadata, f"{file}: [{name}] {key}")
            sources.append(Source(place, values[key], item.metadata["unit"], str(content[key][1])))
    return cls(**values)


def _value(entry: Any, kind: type, metadata: Mapping[str, Any], place: str) -> float | bool:
    """The value of ``[value, "source"]``, checked."""
    pair = cast("list[Any]", entry) if isinstance(entry, list) else []
    if len(pair) != 2:
        raise ConfigError(f'{place} must be [value, "source"], not {entry!r}')
    value, source = pair
    if not isinstance(source, str) or not source.startswith(KINDS):
        raise ConfigError(
            f"{place}: the source must be a text beginning with {', '.join(KINDS)} not {source!r}"
        )
    if kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{place} must be true or false, not {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{place} must be a number in {metadata['unit']}, not {value!r}")
    if not metadata["lowest"] <= value <= metadata["highest"]:
        raise ConfigError(
            f"{place} = {value} {metadata['unit']} is outside {metadata['lowest']} to {metadata['highest']}"
        )
    return float(value)
