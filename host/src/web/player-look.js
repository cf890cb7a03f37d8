// How <patchbay-player> looks: the style sheet of its shadow tree, and its icons.
import { icon } from './dom.js';

export const STYLE = `
:host { display: block; position: relative; container-type: inline-size; background: #000; color: #fff; aspect-ratio: 16 / 9; overflow: hidden; font: 15px/1.4 system-ui, sans-serif; contain: content; }
:host(:fullscreen) { width: 100%; height: 100%; border-radius: 0; }
::slotted(video), ::slotted(img), .poster { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.poster { opacity: .55; }
.message { position: absolute; inset: 0 0 12%; display: grid; place-content: center; justify-items: center; text-align: center; padding: 0 1rem; pointer-events: none; }
.text { max-width: 34rem; padding: .375rem .875rem; border-radius: 10px; background: rgb(0 0 0 / .68); overflow-wrap: anywhere; }
.label { position: absolute; left: 8px; top: 8px; max-width: calc(100% - 16px); padding: 1px 8px; border-radius: 6px; background: rgb(0 0 0 / .6); font-size: 13px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; pointer-events: none; }
.volume { width: 84px; height: 24px; margin: 0; accent-color: #fff; cursor: pointer; }
@container (max-width: 26rem) { .volume, .word { display: none; } }
@container (max-width: 23.5rem) { button.window { display: none; } }
@media (hover: none) { .volume { display: none; } }
.message:not([data-quiet])::before { content: ""; display: block; width: 28px; height: 28px; margin: 0 auto 10px; border-radius: 50%; border: 3px solid rgb(255 255 255 / .3); border-top-color: #fff; animation: turn 1s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .message::before { animation: none !important; } }
.bar { position: absolute; inset: auto 0 0; display: flex; gap: 4px; align-items: center; padding: 28px 10px 8px; background: linear-gradient(transparent, rgb(0 0 0 / .75)); opacity: 0; transition: opacity .15s; }
:host(:hover) .bar, .bar:focus-within, .bar[data-shown] { opacity: 1; }
@media (hover: none) { .bar { opacity: 1; } }
:host([controls=none]) .bar { display: none; }
button { all: unset; box-sizing: border-box; width: 40px; height: 40px; display: grid; place-items: center; border-radius: 8px; cursor: pointer; }
button:hover { background: rgb(255 255 255 / .18); }
button:focus-visible { outline: 2px solid #fff; outline-offset: -2px; }
@media (pointer: coarse) { button { width: 44px; height: 44px; } }
button[aria-pressed=true] { background: #fff; color: #000; }
button[hidden], [hidden] { display: none !important; }
svg { width: 22px; height: 22px; }
.how { margin-right: auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding-left: 6px; font-size: 13px; font-variant-numeric: tabular-nums; text-shadow: 0 1px 2px #000; }
@media (prefers-reduced-motion: reduce) { .bar { transition: none; } }
`;

const SHAPES = {
  sound: 'M4 9v6h4l5 4V5L8 9zM16.500 8.500a5 5 0 0 1 0 7M19 6a9 9 0 0 1 0 12',
  muted: 'M4 9v6h4l5 4V5L8 9zM17 9.500l5 5M22 9.500l-5 5',
  microphone: 'M12 3a3 3 0 0 0-3 3v5a3 3 0 0 0 6 0V6a3 3 0 0 0-3-3M5.500 11a6.500 6.500 0 0 0 13 0M12 17.500V21',
  full: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
  small: 'M9 4v5H4M20 9h-5V4M15 20v-5h5M4 15h5v5',
  window: 'M3 5h18v14H3zM12 12h7v5h-7z',
};

/** An icon of the player's bar. */
export function shape(name) {
  const svg = icon('camera');
  if (SHAPES[name]) svg.firstChild.setAttribute('d', SHAPES[name]);
  return svg;
}
