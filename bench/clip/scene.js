/** The demo's video: an evening by the sea in 30 s, drawn as a pure function of the time. `make clip` renders it. */

export const DURATION_S = 30;
export const FPS = 24;
export const WIDTH = 1600;
export const HEIGHT = 900;
const HORIZON = 560;

const HASTE = 2; // the light of a minute

// second of that minute; colours of the zenith, the sky at the horizon, the water, the land
const LIGHT = [
  [0, [54, 104, 158], [255, 216, 158], [62, 112, 142], [84, 104, 132]],
  [20, [48, 64, 124], [255, 158, 92], [72, 74, 116], [64, 56, 98]],
  [38, [26, 30, 72], [214, 96, 100], [40, 38, 82], [36, 31, 66]],
  [50, [9, 13, 34], [52, 60, 110], [17, 23, 52], [13, 17, 38]],
  [60, [7, 10, 28], [34, 44, 88], [12, 17, 42], [10, 13, 30]],
];
const [ZENITH, GLOW, WATER, LAND] = [1, 2, 3, 4];

const clamp = (value) => Math.min(1, Math.max(0, value));
const chance = (n) => Math.abs(Math.sin(n * 127.1) * 43758.5453) % 1; // reproducible, unlike Math.random

function light(t, part, alpha = 1) {
  t = Math.min(t * HASTE, 59.9);
  const next = Math.max(1, LIGHT.findIndex(([at]) => at > t));
  const [from, to] = [LIGHT[next - 1], LIGHT[next]];
  const share = (t - from[0]) / (to[0] - from[0]);
  return `rgba(${from[part].map((value, i) => Math.round(value + (to[part][i] - value) * share))},${alpha})`;
}

/** Draw the frame at second `t` of the film. */
export function drawScene(g, t) {
  const hour = t * HASTE;
  const night = clamp((hour - 34) / 14);
  const sun = { x: 980, y: 215 + hour * 10.5, color: "255,222,160", strength: clamp((42 - hour) / 12) };
  const moon = { x: 420, y: 720 - (hour - 30) * 16, color: "206,220,255", strength: night };
  sky(g, t, night);
  disc(g, sun, 62, 520);
  disc(g, moon, 34, 260);
  gulls(g, t, clamp((30 - hour) / 6));
  ridge(g, light(t, LAND, 0.45), 40, 470, 0.0021, 1.3);
  ridge(g, light(t, LAND, 0.8), 64, 530, 0.0034, 4.1);
  sea(g, t);
  glitter(g, t, sun);
  glitter(g, t, moon);
  boat(g, t);
  headland(g, t, night);
  vignette(g);
  burnIn(g, t);
}

/** "00:00:12:08": hours, minutes, seconds, frames. */
export function timecode(t) {
  const frame = Math.floor(t * FPS + 1e-6);
  const second = Math.floor(frame / FPS);
  return [second / 3600, (second / 60) % 60, second % 60, frame % FPS]
    .map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
}

function fill(g, color, path) {
  g.fillStyle = color;
  g.beginPath();
  path();
  g.fill();
}

function gradient(g, made, ...stops) {
  stops.forEach(([at, color]) => made.addColorStop(at, color));
  return made;
}

function sky(g, t, night) {
  const air = g.createLinearGradient(0, 0, 0, HORIZON);
  g.fillStyle = gradient(g, air, [0, light(t, ZENITH)], [1, light(t, GLOW)]);
  g.fillRect(0, 0, WIDTH, HORIZON);
  for (let i = 0; night > 0 && i < 130; i++) {
    g.fillStyle = `rgba(255,255,255,${night * (0.25 + 0.65 * chance(i)) * (0.75 + 0.25 * Math.sin(t * 3 + i))})`;
    g.fillRect(chance(i + 0.3) * WIDTH, chance(i + 0.6) ** 1.5 * 500, 1 + 2 * chance(i), 1 + 2 * chance(i));
  }
}

function disc(g, { x, y, color, strength }, radius, halo) {
  const shine = g.createRadialGradient(x, y, radius, x, y, halo);
  g.fillStyle = gradient(g, shine, [0, `rgba(${color},${0.5 * strength})`], [0.4, `rgba(${color},${0.14 * strength})`],
    [1, `rgba(${color},0)`]);
  g.fillRect(0, 0, WIDTH, HORIZON);
  fill(g, `rgba(${color},${strength})`, () => g.arc(x, y, radius, 0, 7));
}

function ridge(g, color, height, base, scale, phase) {
  fill(g, color, () => {
    g.moveTo(0, HORIZON);
    for (let x = 0; x <= WIDTH; x += 8) {
      const rise = Math.sin(x * scale + phase) + 0.5 * Math.sin(x * scale * 2.7 + phase * 2);
      g.lineTo(x, Math.min(HORIZON, base - rise * height));
    }
    g.lineTo(WIDTH, HORIZON);
  });
}

function sea(g, t) {
  const depth = g.createLinearGradient(0, HORIZON, 0, HEIGHT);
  g.fillStyle = gradient(g, depth, [0, light(t, GLOW)], [0.12, light(t, WATER)], [1, light(t, ZENITH)]);
  g.fillRect(0, HORIZON, WIDTH, HEIGHT - HORIZON);
  for (let i = 0; i < 90; i++) {
    const y = HORIZON + 4 + (i / 90) ** 1.7 * 330;
    const x = ((chance(i) * 1900 + t * (12 + i * 0.5)) % 1900) - 200;
    g.fillStyle = light(t, i % 2 ? GLOW : LAND, 0.16);
    g.fillRect(x, y, 60 + i * 2.4, 1 + i / 40);
  }
}

function glitter(g, t, { x, y, color, strength }) {
  const low = clamp(1.2 - Math.abs(HORIZON - y) / 700) * strength;
  for (let i = 0; i < 34; i++) {
    const half = (26 + i * 3.4) * (0.55 + 0.45 * Math.sin(t * (1.4 + chance(i)) + i * 2.1));
    g.fillStyle = `rgba(${color},${low * (0.62 - i * 0.016)})`;
    g.fillRect(x - half + 14 * Math.sin(t + i), HORIZON + 3 + i * i * 0.27, half * 2, 2 + i * 0.12);
  }
}

function gulls(g, t, alpha) {
  g.strokeStyle = `rgba(30,36,60,${0.75 * alpha})`;
  g.lineWidth = 3;
  for (let i = 0; alpha > 0 && i < 5; i++) {
    const [x, y] = [180 + i * 74 + t * 22, 210 + 46 * chance(i) + 12 * Math.sin(t * 0.7 + i)];
    const wing = 9 * Math.sin(t * 6 + i * 1.7);
    g.beginPath();
    g.moveTo(x - 20, y - wing);
    g.quadraticCurveTo(x - 8, y - 6, x, y);
    g.quadraticCurveTo(x + 8, y - 6, x + 20, y - wing);
    g.stroke();
  }
}

function boat(g, t) {
  g.save();
  g.translate(220 + t * 22, 640 + 4 * Math.sin(t * 1.6));
  g.rotate(0.03 * Math.sin(t * 1.1));
  fill(g, "rgba(255,246,230,.92)", () => { g.moveTo(4, -128); g.quadraticCurveTo(66, -70, 62, -16); g.lineTo(4, -16); });
  fill(g, "rgba(232,208,188,.92)", () => { g.moveTo(-4, -112); g.quadraticCurveTo(-44, -60, -48, -16); g.lineTo(-4, -16); });
  fill(g, "#221d2e", () => { g.moveTo(-66, -10); g.lineTo(74, -10); g.quadraticCurveTo(56, 16, 30, 16); g.lineTo(-40, 16); });
  g.fillRect(-2, -132, 4, 124);
  g.restore();
}

function headland(g, t, night) {
  const [x, y] = [1392, 478];
  const turn = Math.cos(t * 0.9);
  const beam = g.createLinearGradient(x, y, x + turn * 900, y);
  g.globalAlpha = 0.5 * night;
  fill(g, gradient(g, beam, [0, "rgba(255,240,190,.9)"], [1, "rgba(255,240,190,0)"]), () => {
    g.moveTo(x, y);
    g.lineTo(x + turn * 900, y - 70);
    g.lineTo(x + turn * 900, y + 50);
  });
  g.globalAlpha = 1;
  fill(g, "#171423", () => {
    g.moveTo(980, HEIGHT);
    g.bezierCurveTo(1120, 780, 1210, 660, 1330, 640);
    g.bezierCurveTo(1440, 624, 1520, 660, WIDTH, 610);
    g.lineTo(WIDTH, HEIGHT);
  });
  fill(g, "#2a2438", () => { g.moveTo(1370, 650); g.lineTo(1380, 496); g.lineTo(1404, 496); g.lineTo(1414, 650); });
  fill(g, "#171423", () => { g.rect(1372, 490, 40, 8); g.rect(1380, 462, 24, 4); g.rect(1384, 452, 16, 12); });
  fill(g, `rgba(255,236,180,${0.35 + 0.65 * night})`, () => g.rect(1384, 468, 16, 22));
}

function vignette(g) {
  const edge = g.createRadialGradient(WIDTH / 2, HEIGHT / 2, 300, WIDTH / 2, HEIGHT / 2, 980);
  g.fillStyle = gradient(g, edge, [0, "rgba(0,0,0,0)"], [0.5, "rgba(0,0,0,.07)"], [1, "rgba(0,0,0,.36)"]);
  g.fillRect(0, 0, WIDTH, HEIGHT);
}

function burnIn(g, t) {
  g.font = "500 26px ui-monospace, 'SF Mono', 'DejaVu Sans Mono', monospace";
  fill(g, "rgba(8,9,14,.55)", () => g.roundRect(36, HEIGHT - 84, 216, 48, 8));
  g.fillStyle = "rgba(255,255,255,.92)";
  g.fillText(timecode(t), 56, HEIGHT - 51);
}
