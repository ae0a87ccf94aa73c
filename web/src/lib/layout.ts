// Where the nodes of the mesh stand in the picture.

export interface Point {
  x: number;
  y: number;
}

export interface Placed {
  id: string;
  region: string;
  at: Point;
}

export interface Region {
  name: string;
  at: Point;
  radius: number;
}

/** Regions stand on an ellipse, a region's nodes on a circle around its middle; the same members always stand alike. */
export function layout(members: { id: string; region: string }[], width: number, height: number): { nodes: Placed[]; regions: Region[] } {
  const names = [...new Set(members.map((member) => member.region))].sort();
  const middle = { x: width / 2, y: height / 2 };
  const narrow = width < height;
  const room = names.length === 1 ? Math.min(width, height) / 2 : Math.min(narrow ? width : width / 2, narrow ? height / 2 : height) / 2;
  const radius = Math.max(40, (names.length > 2 ? 0.62 : 0.92) * room - 14);
  const regions = names.map((name, i) => {
    const angle = (2 * Math.PI * i) / names.length + (narrow ? -Math.PI / 2 : Math.PI);
    const far = names.length === 1 ? 0 : 1;
    const reach = { x: (middle.x - radius - 14) * far, y: (middle.y - radius - 14) * far };
    return { name, radius, at: { x: middle.x + reach.x * Math.cos(angle), y: middle.y + reach.y * Math.sin(angle) } };
  });
  const nodes = regions.flatMap((region) => {
    const own = members.filter((member) => member.region === region.name).sort((a, b) => (a.id < b.id ? -1 : 1));
    const ring = own.length === 1 ? 0 : region.radius * 0.56;
    return own.map((member, i) => {
      // Across the way between regions, so that the lines to them stay apart.
      const angle = (2 * Math.PI * i) / own.length - (narrow ? 0 : Math.PI / 2);
      const at = { x: region.at.x + ring * Math.cos(angle), y: region.at.y + ring * Math.sin(angle) };
      return { id: member.id, region: region.name, at };
    });
  });
  return { nodes, regions };
}
