/** The films of the demo. */

/**
 * `frameRate` in frames a second, `duration` in s.
 * @typedef {{ mediaId: string, title: string, src: string, frameRate: number, duration: number }} Film
 */

/** @type {Film} */
export const GOLDEN_HOUR = { mediaId: "golden-hour-1", title: "Golden Hour", src: "/demo/clip.mp4", frameRate: 24, duration: 30 };

/**
 * Another grade, with a title of TITLE_S before the first picture.
 * @type {Film}
 */
export const GOLDEN_HOUR_GRADED = {
  mediaId: "golden-hour-2", title: "Golden Hour, cut 2", src: "/demo/clip-graded.mp4", frameRate: 24, duration: 32.5,
};

export const TITLE_S = 2.5;

/**
 * The films of the project, with the room of each and the second of the picture that stands for it.
 * @type {readonly (Film & { roomId: string, at: number })[]}
 */
export const PROJECT = [
  { ...GOLDEN_HOUR, roomId: "video_demo", at: 4 },
  { ...GOLDEN_HOUR_GRADED, roomId: "video_cut_2", at: 12 },
  { ...GOLDEN_HOUR, mediaId: "teaser", title: "Teaser", roomId: "video_teaser", at: 17 },
  { ...GOLDEN_HOUR, mediaId: "night", title: "Night", roomId: "video_night", at: 28 },
];

/** @param {Film} film */
export function mediumOf({ mediaId, title, frameRate, duration }) {
  return { mediaId, title, frameRate, duration };
}
