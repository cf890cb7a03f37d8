// <video-stream>, as go2rtc's own pages call their player.
import { VideoRTC } from './video-rtc.js';

if (!customElements.get('video-stream')) customElements.define('video-stream', class VideoStream extends VideoRTC {});
