/** Reads the number of a frame of clips.py from a picture. */

const BITS = 16;
const WIDTH = 320;
const ROW_PX = 40;
const TOP = ROW_PX / 2; // the middle of the first row; that of the second is ROW_PX below

const canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [WIDTH, ROW_PX + 1];
const context = canvas.getContext("2d", { willReadFrequently: true });

/**
 * @param {CanvasImageSource} picture 320 x 180: a video, or a screenshot of one.
 * @returns {number} -1 if it is no frame of these films, or no whole one.
 */
export function numberOf(picture) {
  // in one call: between two calls a film may go on
  context.drawImage(picture, 0, TOP, WIDTH, ROW_PX + 1, 0, 0, WIDTH, ROW_PX + 1);
  const { data } = context.getImageData(0, 0, WIDTH, ROW_PX + 1);
  const [bits, inverted] = [0, 1].map((row) => {
    let value = 0;
    for (let block = 0; block < BITS; block++) {
      const x = (block + 0.5) * (WIDTH / BITS);
      value = value * 2 + Number(data[4 * (ROW_PX * row * WIDTH + x)] > 127);
    }
    return value;
  });
  const number = bits >> 4;
  const checkSum = (number + (number >> 4) + (number >> 8) + 5) & 15;
  return (bits ^ inverted) === 0xffff && (bits & 15) === checkSum ? number : -1;
}
