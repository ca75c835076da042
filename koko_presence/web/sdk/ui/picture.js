/** The picture's rectangle inside its element, the motion of a cursor over it, and its opacity. Uses no DOM. */

const STIFFNESS = 28; // 1/s; nine tenths of the way in 140 ms
const REST_PX = 0.1;
const NEAR_S = 1; // full strength up to here ...
const FAR_S = 4; // ... and the least from here on
const LEAST = 0.25;

/**
 * The rectangle of the picture inside a box of `box` pixels, as CSS object-fit (contain, cover, fill) and object-position
 * place it. Media without a size of its own fill the box.
 */
export function pictureRect(box, media, fit = "contain", position = "50% 50%") {
  if (!(media.width > 0 && media.height > 0) || fit === "fill") return { left: 0, top: 0, ...box };
  const scales = [box.width / media.width, box.height / media.height];
  const scale = Math[fit === "cover" ? "max" : "min"](...scales);
  const width = media.width * scale;
  const height = media.height * scale;
  const [left, top] = [box.width - width, box.height - height].map((free, axis) => {
    const part = position.split(" ")[axis];
    return part.endsWith("%") ? (free * parseFloat(part)) / 100 : parseFloat(part);
  });
  return { left, top, width, height };
}

/** Move `spring` {at, speed} (px, px/s) on by `dt` s towards `to`: critically damped, exact, stable for any dt. */
export function settle(spring, to, dt) {
  const away = spring.at - to;
  const push = spring.speed + STIFFNESS * away;
  const decay = Math.exp(-STIFFNESS * dt);
  spring.at = to + (away + push * dt) * decay;
  spring.speed = (spring.speed - STIFFNESS * push * dt) * decay;
  if (Math.abs(spring.at - to) >= REST_PX || Math.abs(spring.speed) >= 1) return true;
  spring.at = to;
  spring.speed = 0;
  return false;
}

/** 0.25 to 1: opacity of a cursor whose time is `seconds` away from the own one [N10]. */
export function strength(seconds) {
  const away = Math.abs(seconds);
  if (!(away > NEAR_S)) return 1; // also if a time is unknown
  return 1 - (1 - LEAST) * Math.min(1, (away - NEAR_S) / (FAR_S - NEAR_S));
}

/** Position of a person's player when the room is at `position` s, by the last viewer_sync; else undefined. */
export function playhead(member, playback, position) {
  const { state, driftMs } = member.viewerSync ?? {};
  return playback && state && state !== "unknown" ? Math.max(0, position + driftMs / 1000) : undefined;
}
