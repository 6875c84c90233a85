// A line chart as SVG.
'use strict';

const WIDTH = 720;
const HEIGHT = 400;
const LEFT = 80;
const RIGHT = 150; // with the names of the lines
const TOP = 40;
const BOTTOM = 60;
const STEPS = 5;
const COLOURS = ['#1b6ca8', '#c0392b', '#2e8b57', '#8e5ea2'];

const escape = (text) => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;');

// The next of 1, 2, 2.5, 5, 10, 20, ... that is not below the value.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((digit) => digit * power >= value) * power;
}

// { title, xLabel, yLabel, x: labels at even distances, lines: [{ name, y: a number for each x }] }
function plot({ title, xLabel, yLabel, x, lines }) {
  const right = WIDTH - RIGHT;
  const bottom = HEIGHT - BOTTOM;
  const top = roundUp(Math.max(...lines.flatMap((line) => line.y)) || 1);
  const xOf = (i) => (x.length > 1 ? LEFT + i * (right - LEFT) / (x.length - 1) : (LEFT + right) / 2).toFixed(1);
  const yOf = (value) => (bottom - value / top * (bottom - TOP)).toFixed(1);
  const text = (px, py, anchor, what, extra = '') => `<text x="${px}" y="${py}" text-anchor="${anchor}" ${extra}>${escape(what)}</text>`;
  const parts = [text(LEFT, TOP - 18, 'start', title, 'font-weight="bold"'), text((LEFT + right) / 2, HEIGHT - 14, 'middle', xLabel),
    text(18, (TOP + bottom) / 2, 'middle', yLabel, `transform="rotate(-90 18 ${(TOP + bottom) / 2})"`)];
  for (let step = 0; step <= STEPS; step++) {
    const value = top * step / STEPS;
    parts.push(`<line x1="${LEFT}" x2="${right}" y1="${yOf(value)}" y2="${yOf(value)}" stroke="#ddd"/>`,
      text(LEFT - 8, Number(yOf(value)) + 4, 'end', Number(value.toPrecision(6)).toLocaleString('en')));
  }
  x.forEach((label, i) => parts.push(text(xOf(i), bottom + 20, 'middle', label)));
  lines.forEach((line, i) => {
    const colour = COLOURS[i % COLOURS.length];
    parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${line.y.map((value, j) => `${xOf(j)},${yOf(value)}`).join(' ')}"/>`);
    line.y.forEach((value, j) => parts.push(`<circle cx="${xOf(j)}" cy="${yOf(value)}" r="3" fill="${colour}"/>`));
    parts.push(text(right + 14, TOP + 16 + 20 * i, 'start', line.name, `fill="${colour}"`));
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
${parts.join('\n')}
</svg>
`;
}

module.exports = { plot };
