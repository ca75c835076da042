/**
 * The style sheet of every shadow root. It is a string in a module, so that it is there wherever the module is: in a bundle, in a
 * development server, in a classic script. Themed by the custom properties of :host and by ::part(); docs/ui-kit.md.
 */

const CSS = /* css */ `
:host {
  all: initial; /* a component inherits nothing but custom properties and what follows */
  color-scheme: inherit;
  visibility: inherit;
  /* nor does a rule such as "* { letter-spacing: 1px }" of the page reach into it */
  letter-spacing: normal !important;
  word-spacing: normal !important;
  text-transform: none !important;
  text-indent: 0 !important;
  text-align: start !important;
  white-space: normal !important;
  line-height: 1.4 !important;
  --surface: var(--koko-surface, light-dark(#fff, #191c23));
  --text: var(--koko-text, light-dark(#14171d, #eceef3));
  --muted: color-mix(in srgb, var(--text) 70%, #0000);
  --line: color-mix(in srgb, var(--text) 16%, #0000);
  --raised: color-mix(in srgb, var(--text) 7%, #0000);
  --accent: var(--koko-accent, #2563eb);
  display: block;
  color: var(--text);
  font: 14px var(--koko-font, system-ui, sans-serif);
}
:host([hidden]), [hidden] { display: none !important; }
:host(koko-cursors) { position: absolute; inset: 0; overflow: hidden; pointer-events: none; }
:host(koko-avatars) { display: inline-grid; grid-template-columns: max-content minmax(0, 1fr); align-items: center; gap: 4px 8px; min-width: 0; }
:host(koko-fullscreen) { display: inline-block; }
:host(koko-marks) { position: relative; height: 30px; pointer-events: none; }

* { box-sizing: border-box; margin: 0; }
ul { list-style: none; padding: 0; }
bdi, b, .note, .text, .error, .rule, .count { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.error { white-space: normal; overflow-wrap: anywhere; }
small { color: var(--muted); }
.voice { position: fixed; clip-path: inset(50%); }

button {
  font: inherit;
  font-weight: 500;
  color: inherit;
  background: var(--raised);
  border: 1px solid var(--line);
  border-radius: var(--koko-radius, 10px);
  min-height: 32px;
  padding: 0 12px;
  white-space: nowrap;
  cursor: pointer;
}
button:disabled { opacity: 0.5; }

/* avatars */
.title { grid-column: 1 / -1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 600; }
.title small { font-weight: 400; }
.more, .rest { justify-self: start; }
.image .status { display: none; }
.row { display: flex; isolation: isolate; }
.row li + li { margin-inline-start: var(--koko-avatar-gap, 2px); }
.face { display: block; padding: 0; border: 0; border-radius: 50%; background: none; }
.avatar {
  position: relative;
  display: grid;
  place-items: center;
  width: var(--koko-avatar-size, 36px);
  aspect-ratio: 1;
  border-radius: 50%;
  background: var(--color);
  color: var(--ink);
  box-shadow: 0 0 0 2px var(--surface);
  font-weight: 600;
}
.initials::before { content: attr(data-initials); }
.photo { position: absolute; inset: 0; width: 100%; height: 100%; border-radius: 50%; object-fit: cover; }
/* each status has a shape besides its colour: disc, ring, crescent, bar, diamond */
.status { position: absolute; z-index: 1; inset-inline-end: -2px; bottom: -2px; width: 13px; height: 13px; border-radius: 50%; background: #22c55e; border: 2px solid var(--surface); }
.idle { background: radial-gradient(var(--surface) 2px, #f59e0b 2.6px); }
.away { background: radial-gradient(circle at 80% 20%, var(--surface) 4px, var(--muted) 4.6px); }
.busy { background: linear-gradient(var(--surface) 0 0) center / 5px 2px no-repeat #e11d48; }
.reviewing { background: var(--accent); border-radius: 3px; rotate: 45deg; }
.panel { inset: auto; width: 288px; max-height: 60vh; padding: 6px; color: inherit; background: var(--surface); border: 1px solid var(--line); border-radius: var(--koko-radius, 10px); box-shadow: 0 8px 30px #0004; }
.person { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0 12px; align-items: center; width: 100%; padding: 6px 8px; border: 0; background: none; text-align: start; }
.person .avatar { grid-row: span 2; }

/* cursors and reactions */
.overlay { direction: ltr; } /* a film is not mirrored where text runs from right to left */
.cursor { position: absolute; left: 0; top: 0; will-change: transform; }
.cursor::before, .cursor::after { content: ""; position: absolute; left: -3px; top: -3px; width: 23px; height: 26px; background: #fff; clip-path: polygon(0 0, 100% 40%, 54% 54%, 38% 100%); }
.cursor::after { transform: translate(-4%, -4%) scale(0.7); background: var(--color); }
.cursor bdi { position: absolute; left: 0; top: 0; max-width: 160px; padding: 1px 9px; border-radius: 10px; transition: translate 120ms; background: var(--color); color: var(--ink); font-size: 12px; font-weight: 600; }
.float { position: absolute; max-width: 200px; translate: -50%; text-align: center; font-size: 40px; line-height: 1; animation: rise 3.2s ease-out both; }
.float bdi { display: block; color: #fff; font-size: 12px; font-weight: 600; text-shadow: 0 0 3px #000; }
@keyframes rise {
  0%, to { opacity: 0; }
  9%, 70% { opacity: 1; }
  to { transform: translateY(-260px); }
}

/* marks */
.selection { position: absolute; height: 5px; min-width: 3px; border-radius: 3px; background: var(--color); opacity: 0.75; }
.mark { position: absolute; width: 2px; height: 11px; background: var(--color); }
.mark b { position: absolute; top: 10px; min-width: 20px; border-radius: 6px; background: var(--color); color: var(--ink); font-size: 10px; line-height: 18px; text-align: center; }

/* typing */
.typing { color: var(--muted); }
.text { min-width: 0; }
.dots { flex: none; width: 24px; height: 8px; background: radial-gradient(currentColor 2.4px, #0000 3px) 0 / 8px; animation: dots 1.4s steps(4, jump-none) infinite; }
@keyframes dots { from { clip-path: inset(0 100% 0 0); } to { clip-path: inset(0); } }

/* watch */
.head, .request, .viewer, .faces, .typing { display: flex; align-items: center; gap: 8px; }
.head { min-height: 38px; }
.connection { padding: 6px 10px; border-radius: var(--koko-radius, 10px); background: var(--raised); overflow-wrap: anywhere; }
.head p { flex: 1; min-width: 0; display: grid; font-weight: 600; }
.rule { font-weight: 400; }
.rule:empty { display: none; }
.head button, .request p + .button { border-color: transparent; background: var(--accent); color: var(--koko-accent-text, #fff); }
.request { margin-top: 8px; padding: 8px; border-radius: var(--koko-radius, 10px); background: var(--raised); }
.request p { display: flex; flex: 1; min-width: 0; white-space: pre; }
.viewers, .faces { margin-top: 6px; }
.viewers { max-height: 40vh; overflow: auto; }
.viewer { line-height: 27px; }
.viewer i { padding: 3px; border-radius: 50%; border: 2px solid var(--color); }
.in i { background: var(--color); }
.viewer i { flex: none; }
.viewer small { flex: none; margin-inline-start: auto; }
.reaction { flex: 1; padding: 4px 0; font-size: 19px; }

@media (prefers-reduced-motion: reduce) {
  .float { transform: none !important; }
  .dots { animation: none; }
  .cursor bdi { transition: none; }
}
`;

/** @type {CSSStyleSheet | undefined} */
let sheet;

/** The one sheet that all components of a page share. */
export function styleSheet() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  return sheet;
}
